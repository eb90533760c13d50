"""A checkpoint's weights in a model, as one moment had them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.fitting.filling import finish_lazy
from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.reading import read_weights
from analyze.errors import CheckpointError, InputError
from analyze.models.building import build_model
from analyze.models.conversion import converted
from analyze.runs.job import Job
from analyze.specs.model import ModelSpec


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that is ready to be measured.

    Args:
        model: With the checkpoint's weights.
        prefix: That its names were found under.
        sha256: Of the file that the weights came from.
    """

    model: nn.Module
    prefix: str
    sha256: str


def load(job: Job, checkpoint: Checkpoint, sha256: str) -> Loaded:
    """A freshly built model with a checkpoint's weights.

    Args:
        job: Says how to build and read.
        checkpoint: Which.
        sha256: Its hash before, as ``hash_of`` gives it.

    Raises:
        CheckpointError: the file cannot be read, does not fit, or has another hash afterwards.
    """
    model = build_model(job.model)
    prefix = fill(model, job, checkpoint)
    if hash_of(checkpoint) != sha256:
        raise CheckpointError(
            "the checkpoint changed while it was read",
            found=f"{checkpoint.name} with another content than before",
            expected="files that no program is writing to",
            fix="run the same command again once the file is complete",
        )
    return Loaded(model, prefix, sha256)


def loaded_model(job: Job, checkpoint: Checkpoint) -> nn.Module:
    """As ``load``, without a look at whether the file changes meanwhile.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
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
    """The spec and the model with so many classes, without values, where it takes their number."""
    other = f"num_classes={classes}"
    text, changed = re.subn(r"(?<=[?&])num_classes=[^&]*", other, spec.text)
    if not changed:
        text = f"{spec.text}{'&' if '?' in spec.text else '?'}{other}"
    try:
        with torch.device("meta"):  # a file may claim any number
            return text, build_model(replace(ModelSpec.parse(text), config=spec.config))
    except InputError:
        return None


def hash_of(checkpoint: Checkpoint) -> str:
    """The hash of a checkpoint as it is now.

    Raises:
        CheckpointError: it is gone, or cannot be read.
    """
    try:
        return checkpoint.sha256
    except OSError as error:
        raise CheckpointError(
            "the checkpoint cannot be read",
            found=f"{checkpoint.name}: {error.strerror or error}",
            expected="the file that was there when the run began",
            fix="restore it and run the same command again, or --checkpoints GLOB without it",
        ) from error
