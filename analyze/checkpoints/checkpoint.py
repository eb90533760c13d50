"""One checkpoint of a run, before its tensors are read, and what is no checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from analyze.checkpoints.hashes import sha256_of_all
from analyze.errors import CheckpointError, InputError

NAN = math.nan


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run, before its tensors are read.

    Args:
        name: Path relative to the run, with forward slashes; unique.
        path: Where the file or directory is.
        step: Of the optimizer; NaN where unknown.
        epoch: As the trainer counts, from 0 or from 1; NaN where unknown.
        step_rule: How the step was found.
        format: ``safetensors``, ``torch``, ``distributed``, ...
        weights_key: Where in the file the weights are; empty for the top level.
        prefix: What all names of its tensors begin with, as wrappers leave it.
        tensors: Number of weight tensors.
        problem: Why it cannot be read; None when it can.
        epochs_completed: Comparable between trainers; NaN where unknown.
        tokens: Seen in training; NaN where unknown.
        weights: ``model``, or ``ema`` for their moving average.
        both: Whether the other kind of weights is there as well.
        kept_by: What decided that it was kept, where that is a metric.
        files: What it is made of.
        doubt: Why its name gives no step, where it has a number that could be one.
        order: What orders those of unknown or equal progress: a time in the name; NaN for none.
        also: ``step`` or ``epoch``, the rule and the number, where it says them elsewhere.
        unused: Renamings of the user's that change none of its tensors' names.
    """

    name: str
    path: Path
    step: float
    epoch: float
    step_rule: str
    format: str
    weights_key: str
    prefix: str
    tensors: int
    problem: CheckpointError | None = None
    epochs_completed: float = NAN
    tokens: float = NAN
    weights: str = "model"
    both: bool = False
    kept_by: str = ""
    files: tuple[Path, ...] = field(default=(), repr=False)
    doubt: str = ""
    order: float = NAN
    also: tuple[tuple[str, str, float], ...] = ()
    unused: frozenset[str] = frozenset()

    @property
    def sha256(self) -> str:
        """Hash of the file; of a directory, the hash of its files' names and hashes."""
        return sha256_of_all(self.files or (self.path,))


@dataclass(frozen=True)
class LeftOut:
    """A file or directory that is no checkpoint of the run, and why."""

    name: str
    why: str


class NoCheckpointsError(InputError):
    """There is no checkpoint, or none is chosen: of a training that goes on, none yet."""
