"""The message for a checkpoint that does not fit a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.checkpoints.fitting.filling import LEARNED, IncompatibleKeys
from analyze.errors import CheckpointError, counted, listed


@dataclass(frozen=True)
class Attempt:
    """A checkpoint that was loaded into a model, and the outcome."""

    prefix: str  # taken off the checkpoint's names
    unused: list[str]  # options of the user's that match no name: ``--ignore 'loss.*'``
    saved: Mapping[str, Any]  # the checkpoint's tensors by the model's names, as far as known
    wanted: Mapping[str, Any]  # the model's tensors
    infinite: set[str]  # buffers of the model that were not finite before: masks
    outcome: IncompatibleKeys
    # The outcome with further renamings and globs to ignore; None where they are refused.
    helped: Callable[[Sequence[str], Sequence[str]], IncompatibleKeys | None]
    resized: Callable[[int], tuple[str, nn.Module] | None]  # as ``fit.Resized``


def misfit(attempt: Attempt, name: str, model_name: str, hint: str) -> CheckpointError:
    """The error with every mismatch and the shapes on both sides; its fix ends with the hint."""
    saved, wanted, outcome = attempt.saved, attempt.wanted, attempt.outcome
    found = [f"{counted(len(saved), 'tensor')} in {name}"]
    expected = [f"{counted(len(wanted), 'tensor')} of {model_name}"]
    if names := outcome.unknown:
        found.append(f"{len(names)} of them unknown: {_shaped(saved, names)}")
    if names := outcome.misshapen:
        found.append(f"{len(names)} of another shape: {_shaped(saved, names)}")
        expected.append(f"where they are {_shaped(wanted, names)}")
    if names := outcome.missing:
        expected.append(f"{len(names)} of them missing: {_shaped(wanted, names)}")
    if outcome.said:
        found.append(f"the model's loading says: {listed(outcome.said, 3)}")
    if attempt.unused:
        found.append(f"no name that {listed(attempt.unused, 3)} matches")
    return CheckpointError(
        "the checkpoint does not fit the model",
        found=", ".join(found),
        expected=", ".join(expected),
        fix=f"give the model that was trained: --model SPEC{hint}",
    )


def as_built(key: str, value: Any) -> bool:
    """Whether a value may stay as the model builds it: a buffer that training leaves alone."""
    return not isinstance(value, nn.Parameter) and not key.endswith(LEARNED)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """A tensor's shape; None for an extra state, or where it has none yet."""
    return None if not isinstance(value, Tensor) or is_lazy(value) else tuple(value.shape)


def _shaped(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {_shape(values.get(name))}" for name in names)


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "(no tensor)"
    shape = shape_of(value)
    return "(of any shape)" if shape is None else str(list(shape))
