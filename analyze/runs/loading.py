"""Models with the weights of a checkpoint, and a check that its files did not change meanwhile."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.fitting.filling import finish_lazy
from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.reading import read_weights
from analyze.errors import CheckpointError, InputError
from analyze.models.building import build_model, built_without_values
from analyze.models.conversion import converted
from analyze.runs.job import Job
from analyze.specs.model import ModelSpec

COARSE = 2.0  # seconds that the clocks of some file systems cannot tell apart


@dataclass(frozen=True)
class Snapshot:
    """The hash of a checkpoint's files at one moment."""

    checkpoint: Checkpoint
    sha256: str
    marks: list[tuple[int, ...]]  # device, inode, size and times of each file before hashing
    settled: bool  # every file was old enough for a change to show in its times

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Snapshot:
        """A snapshot of the files as they are now.

        Raises:
            CheckpointError: it is gone, or cannot be read.

        Cost: all bytes are read once.
        """
        try:
            marks = _marks(checkpoint)
            settled = time.time() - max(mark[-1] for mark in marks) / 1e9 > COARSE
            return cls(checkpoint, checkpoint.sha256, marks, settled)
        except OSError as error:
            raise CheckpointError(
                "the checkpoint cannot be read",
                found=f"{checkpoint.name}: {error.strerror or error}",
                expected="the file that was there when the run began",
                fix="restore it and run the same command again, or --checkpoints GLOB without it",
            ) from error

    def check_unchanged(self) -> None:
        """Refuse what was read since the snapshot if the files have changed.

        Equal marks of settled files mean equal bytes: a write changes the time of the last change
        (``ctime``), which no program can set. Where they differ, or cannot tell, the bytes are
        hashed again, so that a new date alone is no change.

        Raises:
            CheckpointError: the files hold something else now.
        """
        with suppress(OSError):  # hashing raises what is wrong
            if self.settled and _marks(self.checkpoint) == self.marks:
                return
        if Snapshot.of(self.checkpoint).sha256 != self.sha256:
            raise CheckpointError(
                "the checkpoint changed while it was read",
                found=f"{self.checkpoint.name} with another content than before",
                expected="files that no program is writing to",
                fix="run the same command again once the file is complete",
            )


def _marks(checkpoint: Checkpoint) -> list[tuple[int, ...]]:
    """Marks of each file by which a later state of it, or another file in its place, is seen."""
    marks: list[tuple[int, ...]] = []
    for path in checkpoint.files or (checkpoint.path,):
        with path.open("rb") as file:  # a network file system may remember times of closed ones
            stat = os.fstat(file.fileno())
        marks.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return marks


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that is ready to be measured."""

    model: nn.Module
    prefix: str
    sha256: str
    following: Following | None = None


@dataclass(frozen=True)
class Following:
    """The checkpoint after another one, as far as the direction ``update`` needs it."""

    sha256: str | None  # None where it cannot be read
    weights: dict[str, Tensor] | None = None  # None where it does not fit, or is not finite


def following_of(job: Job, checkpoint: Checkpoint) -> Following:
    """The weights of the checkpoint that follows on the one that is measured.

    Cost: its file is hashed and read once more, and held beside the other's.
    """
    sha256 = hash_of(checkpoint)
    try:
        snapshot = Snapshot.of(checkpoint)
        model = loaded_model(job, checkpoint)
        snapshot.check_unchanged()
    except CheckpointError:  # said when its own turn comes
        return Following(sha256)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    finite = all(bool(values.isfinite().all()) for values in weights.values())
    return Following(sha256, weights if finite else None)


def hash_of(checkpoint: Checkpoint | None) -> str | None:
    """The hash of a checkpoint's files; None where there are none that can be read."""
    if checkpoint is None:
        return None
    try:
        return Snapshot.of(checkpoint).sha256
    except CheckpointError:
        return None


def load(job: Job, snapshot: Snapshot, following: Checkpoint | None = None) -> Loaded:
    """A new model with the weights of a checkpoint whose snapshot was taken just before.

    With those of the checkpoint ``following`` on it, if there is one.

    Raises:
        CheckpointError: a file cannot be read, does not fit, or has changed since the snapshot.
    """
    model = build_model(job.model)
    prefix = fill(model, job, snapshot.checkpoint)
    snapshot.check_unchanged()
    after = None if following is None else following_of(job, following)
    return Loaded(model, prefix, snapshot.sha256, after)


def loaded_model(job: Job, checkpoint: Checkpoint) -> nn.Module:
    """A new model with the weights of a checkpoint; nothing checks that its files stay the same."""
    model = build_model(job.model)
    fill(model, job, checkpoint)
    return model


def fill(model: nn.Module, job: Job, checkpoint: Checkpoint) -> str:
    """Put a checkpoint's weights into a model; the prefix that its names were found under.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    if checkpoint.problem is not None:
        raise checkpoint.problem
    reading = job.options.reading
    weights = read_weights(checkpoint.path, reading)
    prefix = fit(
        model, weights, checkpoint.name, job.model.text,
        rename=reading.rename, ignore=reading.ignore,
        convert=converted if job.model.needs_config else None,
        resized=partial(_resized, job.model),
    )  # fmt: skip
    finish_lazy(model)
    return prefix


def _resized(spec: ModelSpec, classes: int) -> tuple[str, nn.Module] | None:
    """The spec and the model (without values) for a number of classes; None if it takes none."""
    other = f"num_classes={classes}"
    text, changed = re.subn(r"(?<=[?&])num_classes=[^&]*", other, spec.text)
    if not changed:
        text = f"{spec.text}{'&' if '?' in spec.text else '?'}{other}"
    try:
        # Without values: a file may claim any number.
        return text, built_without_values(replace(ModelSpec.parse(text), config=spec.config))
    except InputError:
        return None
