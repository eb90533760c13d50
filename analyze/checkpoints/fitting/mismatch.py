"""What does not fit between a checkpoint and a model, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.checkpoints.fitting.filling import LEARNED, Outcome
from analyze.errors import CheckpointError, counted, listed


@dataclass(frozen=True)
class Attempt:
    """A checkpoint that was loaded into a model, and what did not fit.

    Args:
        prefix: What was taken off the names.
        unused: Options of the user's that match no name: ``--ignore 'loss.*'``.
        saved: What the checkpoint holds, by the model's names as far as they are known.
        wanted: What the model holds.
        infinite: Buffers of the model that were not finite before: masks.
        outcome: What did not fit.
        helped: What would not fit with further renamings and further globs to ignore; None where
            they are refused.
        resized: The spec and the model with so many classes; None where there is no such thing.
    """

    prefix: str
    unused: list[str]
    saved: Mapping[str, Any]
    wanted: Mapping[str, Any]
    infinite: set[str]
    outcome: Outcome
    helped: Callable[[Sequence[str], Sequence[str]], Outcome | None]
    resized: Callable[[int], tuple[str, nn.Module] | None]


def misfit(attempt: Attempt, name: str, model_name: str, hint: str) -> CheckpointError:
    """Every mismatch, with the shapes on both sides; what to type ends with the hint."""
    saved, wanted, amiss = attempt.saved, attempt.wanted, attempt.outcome
    found = [f"{counted(len(saved), 'tensor')} in {name}"]
    expected = [f"{counted(len(wanted), 'tensor')} of {model_name}"]
    if amiss.unknown:
        found.append(f"{len(amiss.unknown)} of them unknown: {_shaped(saved, amiss.unknown)}")
    if amiss.misshapen:
        found.append(f"{len(amiss.misshapen)} of another shape: {_shaped(saved, amiss.misshapen)}")
        expected.append(f"where they are {_shaped(wanted, amiss.misshapen)}")
    if amiss.missing:
        expected.append(f"{len(amiss.missing)} of them missing: {_shaped(wanted, amiss.missing)}")
    if amiss.said:
        found.append(f"the model's loading says: {listed(amiss.said, 3)}")
    if attempt.unused:
        found.append(f"no name that {listed(attempt.unused, 3)} matches")
    return CheckpointError(
        "the checkpoint does not fit the model",
        found=", ".join(found),
        expected=", ".join(expected),
        fix=f"give the model that was trained: --model SPEC{hint}",
    )


def as_built(key: str, value: Any) -> bool:
    """Whether a thing may be right as the model builds it: a buffer that training leaves alone."""
    return not isinstance(value, nn.Parameter) and not key.endswith(LEARNED)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """A tensor's shape; None for an extra state, or where it has none yet."""
    if not isinstance(value, Tensor) or is_lazy(value):
        return None
    return tuple(value.shape)


def _shaped(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {_shape(values.get(name))}" for name in names)


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "(no tensor)"
    shape = shape_of(value)
    return "(of any shape)" if shape is None else str(list(shape))
