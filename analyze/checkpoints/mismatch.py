"""What does not fit between a checkpoint and a model, in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from analyze.errors import CheckpointError, counted, listed

MOST, LONGEST = 200, 1000  # names that others like them are looked for, and characters of one
LEARNED = ("running_mean", "running_var")  # buffers that training changes


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
        fix=f"give the model that was trained: --model SPEC{_hint(found, own, mismatch)}",
    )


def _shaped(tensors: Mapping[str, Tensor], names: list[str]) -> str:
    return ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)


def as_built(key: str, tensor: Tensor) -> bool:
    """Whether a tensor may be right as the model builds it: a buffer that training leaves alone."""
    return not isinstance(tensor, nn.Parameter) and not key.endswith(LEARNED)


def _hint(found: Mapping[str, Tensor], own: Mapping[str, Tensor], mismatch: Mismatch) -> str:
    """What to type for a prefix, or for the closest names, or for what may be left out."""
    unknown, missing = mismatch.unknown, mismatch.missing
    if prefix := _prefix(unknown, missing, own):
        return f" (the names lack {prefix}: --rename '*={prefix}*')"
    close = [
        (key, match[0])
        for key in unknown[:MOST]
        if len(key) < LONGEST
        and (match := difflib.get_close_matches(key, _of_shape(own, missing, found[key]), n=1))
    ]
    if close:
        pairs = listed([f"{old} for {new}" for old, new in close], 3)
        return f" (perhaps {pairs}: --rename {close[0][0]}={close[0][1]})"
    amiss = [*missing, *mismatch.misshapen]
    if amiss and not unknown and all(as_built(key, own[key]) for key in amiss):
        return f"; if these buffers are as the model builds them: {_ignored(amiss)}"
    own_parts = {key.partition(".")[0] for key in own}
    if not amiss and own_parts.isdisjoint(key.partition(".")[0] for key in unknown):
        return f"; if these are no part of the model, as weights of a loss: {_ignored(unknown)}"
    return ""


def _prefix(unknown: list[str], missing: list[str], own: Mapping[str, Tensor]) -> str:
    """What all unknown names lack to be names of the model."""
    lacking = {key[: -len(unknown[0])] for key in missing if unknown and key.endswith(unknown[0])}
    return next((p for p in sorted(lacking, key=len) if p.endswith(".")
                 and all(f"{p}{key}" in own for key in unknown)), "")  # fmt: skip


def _of_shape(own: Mapping[str, Tensor], names: list[str], tensor: Tensor) -> list[str]:
    return [name for name in names if own[name].shape == tensor.shape]


def _ignored(names: list[str]) -> str:
    """The option that leaves all of them out: by their last or first part where it is the same."""
    first = {f"{name.partition('.')[0]}.*" for name in names}
    last = {f"*.{name.rpartition('.')[2]}" for name in names}
    globs = min((set(names), last, first), key=len)
    return " ".join(f"--ignore '{glob}'" for glob in sorted(globs))
