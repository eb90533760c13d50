"""What does not fit between a checkpoint and a model, in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from analyze.errors import CheckpointError, counted, listed


@dataclass(frozen=True)
class Mismatch:
    """Names of tensors: those the model misses, those it does not know, those of another shape."""

    missing: list[str]
    unknown: list[str]
    misshapen: list[str]


def misfit(
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    mismatch: Mismatch,
    name: str,
    model_name: str,
) -> CheckpointError:
    """Every mismatch, with the shapes on both sides and the closest names."""
    missing, unknown, misshapen = mismatch.missing, mismatch.unknown, mismatch.misshapen
    there = [f"{counted(len(found), 'tensor')} in {name}"]
    wanted = [f"{counted(len(own), 'tensor')} of {model_name}"]
    if unknown:
        there.append(f"{len(unknown)} of them unknown: {_shaped(found, unknown)}")
    if misshapen:
        there.append(f"{len(misshapen)} of another shape: {_shaped(found, misshapen)}")
        wanted.append(f"where they are {_shaped(own, misshapen)}")
    if missing:
        wanted.append(f"{len(missing)} of them missing: {_shaped(own, missing)}")
    return CheckpointError(
        "the checkpoint does not fit the model",
        found=", ".join(there),
        expected=", ".join(wanted),
        fix=f"give the model that was trained: --model SPEC{_hint(own, mismatch)}",
    )


def _shaped(tensors: Mapping[str, Tensor], names: list[str]) -> str:
    return ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)


def _hint(own: Mapping[str, Tensor], mismatch: Mismatch) -> str:
    """The closest names, and what to type for them; or which buffers may be ignored."""
    close = [
        (key, match[0])
        for key in mismatch.unknown
        if (match := difflib.get_close_matches(key, mismatch.missing, n=1))
    ]
    if close:
        pairs = listed([f"{old} for {new}" for old, new in close], 3)
        return f" (perhaps {pairs}: --rename {close[0][0]}={close[0][1]})"
    amiss = [*mismatch.missing, *mismatch.misshapen]
    buffers = [key for key in amiss if not isinstance(own[key], nn.Parameter)]
    if buffers and len(buffers) == len(amiss) and not mismatch.unknown:
        return f"; if these buffers are as the model builds them: --ignore '{buffers[0]}'"
    return ""
