"""Read what a checkpoint holds, whatever its layout, by loaders that run no code from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.layout import Opened
from analyze.checkpoints.layouts.table import open_checkpoint
from analyze.checkpoints.naming.training_position import TrainingPosition, position_in
from analyze.checkpoints.options import DEFAULTS, ReadingOptions
from analyze.checkpoints.state import (
    KindsOfWeights,
    Weights,
    common_prefix,
    kinds_of_weights,
    places,
    weights_at,
)
from analyze.checkpoints.versions import StateDict


@dataclass(frozen=True)
class Content:
    """What a checkpoint says of itself, without the values of its tensors.

    Args:
        format: ``torch``, ``safetensors``, ``distributed``, ...
        weights: ``model`` or ``ema``: which weights ``names`` are.
        weights_key: Where they are; empty for the top level.
        names: Of the weights.
        both: Whether the other kind of weights is there as well.
        position: How far training was.
        files: What the checkpoint is made of.
        elsewhere: Where other tensors are, and how many, if no weights were found.
    """

    format: str
    weights: str = "model"
    weights_key: str = ""
    names: list[str] = field(default_factory=list)
    both: bool = False
    position: TrainingPosition = field(default_factory=TrainingPosition)
    files: tuple[Path, ...] = ()
    elsewhere: dict[str, int] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What all names begin with, as wrappers leave it."""
        return common_prefix(self.names)


UNREADABLE = Content("unknown")


def read_content(path: Path, options: ReadingOptions = DEFAULTS) -> Content:
    """Everything but the values of the tensors; files are mapped, not loaded.

    Raises:
        CheckpointError: the checkpoint is damaged, is a pickle that would run code, or has not the
            weights that were asked for.
    """
    opened, kinds = _opened(path, options)
    weights, kind = kinds.chosen(options.weights, as_text(path))
    return Content(
        opened.format,
        kind,
        weights.key,
        list(weights.tensors),
        kinds.model is not None and kinds.ema is not None,
        position_in(opened.state, path),
        opened.files,
        {} if weights.tensors else places(opened.state),
    )


def read_weights(path: Path, options: ReadingOptions = DEFAULTS) -> StateDict:
    """The weight tensors of a checkpoint, on the CPU, by name, with what torch keeps beside them.

    Raises:
        CheckpointError: as ``read_content``.
    """
    opened, kinds = _opened(path, options)
    weights, _ = kinds.chosen(options.weights, as_text(path))
    return StateDict({**weights.extra, **opened.load(weights)}, weights.versions)


def read_sample(path: Path, options: ReadingOptions = DEFAULTS) -> dict[str, Any]:
    """The first, the middle and the last of the weight tensors by name.

    Raises:
        CheckpointError: as ``read_content``.
    """
    opened, kinds = _opened(path, options)
    weights, _ = kinds.chosen(options.weights, as_text(path))
    names = sorted(weights.tensors)
    sample = {names[k] for k in (0, len(names) // 2, -1)} if names else set()
    return opened.load(Weights(weights.key, {name: weights.tensors[name] for name in sample}))


def _opened(path: Path, options: ReadingOptions) -> tuple[Opened, KindsOfWeights]:
    opened = open_checkpoint(path, trust=options.trust_pickle)
    if options.weights_key is None:
        return opened, kinds_of_weights(opened.state)
    key, kind = options.weights_key, options.weights
    return opened, weights_at(opened.state, key, kind, as_text(path))
