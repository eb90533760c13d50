"""Read a checkpoint of any layout, by loaders that run no code from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.layout import Opened
from analyze.checkpoints.layouts.table import open_checkpoint
from analyze.checkpoints.learning_rate import learning_rate_in
from analyze.checkpoints.naming.training_position import (
    TrainingPosition,
    position_in,
    trainer_state,
)
from analyze.checkpoints.options import DEFAULTS, ReadingOptions
from analyze.checkpoints.state import (
    KindsOfWeights,
    Weights,
    kinds_of_weights,
    places,
    weights_at,
)
from analyze.checkpoints.versions import StateDict


@dataclass(frozen=True)
class Content:
    """What a checkpoint says of itself, without the values of its tensors."""

    format: str  # as ``Opened`` has it
    weights: str = "model"  # or ``ema``: the kind of weights that ``names`` are
    weights_key: str = ""  # their dotted path in the file; empty for the top level
    names: list[str] = field(default_factory=list)  # of the weights
    both: bool = False  # whether the other kind of weights is there as well
    position: TrainingPosition = field(default_factory=TrainingPosition)
    learning_rate: float | None = None  # None where it is not known
    files: tuple[Path, ...] = ()
    elsewhere: dict[str, int] = field(default_factory=dict)  # numbers of tensors by their places


UNREADABLE = Content("unknown")
Read = Callable[[Path, ReadingOptions], dict[str, Any]]


def read_content(path: Path, options: ReadingOptions = DEFAULTS) -> Content:
    """Everything in a checkpoint but the values of its tensors; files are mapped, not loaded.

    Raises:
        CheckpointError: the checkpoint is damaged, is a pickle that would run code, or has not the
            weights that were asked for.
    """
    opened, kinds, weights, kind = _opened(path, options)
    record, doubt = trainer_state(path)
    return Content(
        opened.format,
        kind,
        weights.key,
        list(weights.tensors),
        kinds.model is not None and kinds.ema is not None,
        position_in(opened.state, record, doubt),
        learning_rate_in(opened.state, record),
        opened.files,
        {} if weights.tensors else places(opened.state),
    )


def read_weights(path: Path, options: ReadingOptions = DEFAULTS) -> StateDict:
    """The weight tensors of a checkpoint, on the CPU, by name; raises as ``read_content``."""
    opened, _, weights, _ = _opened(path, options)
    return StateDict({**weights.extra, **opened.load(weights)}, weights.versions)


def read_sample(path: Path, options: ReadingOptions = DEFAULTS) -> dict[str, Any]:
    """The first, middle and last weight tensor by name; raises as ``read_content``."""
    opened, _, weights, _ = _opened(path, options)
    names = sorted(weights.tensors)
    sample = {names[k] for k in (0, len(names) // 2, -1)} if names else set()
    return opened.load(Weights(weights.key, {name: weights.tensors[name] for name in sample}))


def _opened(path: Path, options: ReadingOptions) -> tuple[Opened, KindsOfWeights, Weights, str]:
    """A checkpoint, the kinds of weights in it, those that the user wants, and their kind."""
    opened, name = open_checkpoint(path, trust=options.trust_pickle), as_text(path)
    if options.weights_key is None:
        kinds = kinds_of_weights(opened.state)
    else:
        kinds = weights_at(opened.state, options.weights_key, options.weights, name)
    return opened, kinds, *kinds.chosen(options.weights, name)
