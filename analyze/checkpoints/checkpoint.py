"""One checkpoint of a run, before its tensors are read, and what is no checkpoint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analyze.errors import CheckpointError, InputError

NAN = math.nan
NUMBERS = ("step", "epoch", "epochs_completed", "tokens", "learning_rate")  # NaN where unknown


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run, before its tensors are read; numbers are NaN where unknown."""

    name: str  # path relative to the run, with forward slashes; unique
    path: Path
    step: float  # of the optimizer
    epoch: float  # as the trainer counts, from 0 or from 1
    step_rule: str  # the rule by which the step was read
    format: str  # as ``Opened`` has it
    weights_key: str  # the dotted path of the weights in the file; empty for the top level
    prefix: str  # common to the names of all tensors, as wrappers leave it
    tensors: int  # number of weight tensors
    problem: CheckpointError | None = None  # why it cannot be read
    epochs_completed: float = NAN  # comparable between trainers
    tokens: float = NAN  # seen in training
    weights: str = "model"  # or ``ema``, their moving average
    both: bool = False  # whether the other kind of weights is there as well
    kept_by: str = ""  # the metric by which the trainer chose to keep it
    files: tuple[Path, ...] = field(default=(), repr=False)
    doubt: str = ""  # why a number in its name is not read as the step
    order: float = NAN  # a time in the name, which orders checkpoints of unknown or equal progress
    also: tuple[tuple[str, str, float], ...] = ()  # other readings: step or epoch, rule, number
    learning_rate: float = NAN  # of the optimizer that was saved with the weights
    unused: frozenset[str] = frozenset()  # the user's renamings that change no tensor's name

    @property
    def size(self) -> int:
        """The bytes of its files; 0 where they cannot be looked at."""
        try:
            return sum(file.stat().st_size for file in self.files or (self.path,))
        except OSError:
            return 0

    @property
    def sha256(self) -> str:
        """Hash of the file; of a directory, the hash of its files' names and hashes."""
        return sha256_of_all(self.files or (self.path,))


@dataclass(frozen=True)
class LeftOut:
    """A file or directory that is no checkpoint of the run, and the reason."""

    name: str
    why: str


class NoCheckpointsError(InputError):
    """There is no checkpoint, or none is chosen; a training that goes on may have none yet."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(files: Sequence[Path]) -> str:
    """Hash of one file; of several, the hash of the list that ``sha256sum`` prints of them."""
    if len(files) == 1:
        return sha256(files[0])
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
