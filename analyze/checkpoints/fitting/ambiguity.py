"""Choices that a checkpoint leaves open, refused where they change the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from analyze.checkpoints.fitting.filling import (
    IncompatibleKeys,
    has_own_loading,
    own_versions,
    tensors_of,
    tried,
)
from analyze.checkpoints.fitting.globs import globs_for
from analyze.checkpoints.versions import Versions
from analyze.errors import CheckpointError, RefusedError, listed

SHOWN = 3  # parts in a message


def two_parts(prefixes: list[str], names: list[str], name: str, model_name: str) -> CheckpointError:
    """The error for networks in one file that all are the model: ``encoder_q``, ``encoder_k``."""
    ways = []
    for prefix in prefixes[:SHOWN]:
        kept = [key for key in names if key.startswith(prefix)]
        others = [key for key in names if not key.startswith(prefix)]
        options = " ".join(f"--ignore '{glob}'" for glob in globs_for(others, kept)[0])
        ways.append(f"for {prefix.removesuffix('.')}: {options}")
    return RefusedError(
        "several parts of the checkpoint fit the model",
        found=f"the names of {model_name} below {' and below '.join(prefixes)} in {name}",
        expected="one, as which of them is meant cannot be told",
        fix="; ".join(ways),
    )


def decided_versions(
    model: nn.Module,
    saved: Mapping[str, Any],
    versions: Versions,
    name: str,
    judged: Callable[[IncompatibleKeys], IncompatibleKeys],
) -> Versions:
    """The versions to load ``saved``, by the model's names, where the checkpoint has only some.

    safetensors hold none, nor does a dictionary that was made anew. Torch takes such weights for
    old ones, and a module that converts these would convert those of today as well. So both are
    tried in copies, if a module has loading code of its own: the versions that fit are taken, those
    of today where both give the same weights. ``judged`` keeps what counts of an outcome.

    Raises:
        RefusedError: both fit, and give different weights.
    """
    silent = [path for path in has_own_loading(model) if path not in versions]
    if not silent:
        return versions
    today = own_versions(model)
    today = versions | {path: today[path] for path in silent if path in today}
    try:
        new, by_new = tried(model, saved, today)
        old, by_old = tried(model, saved, versions)
    except Exception:  # a model that cannot be copied is loaded as torch does it
        return versions
    if not (judged(new).fits and judged(old).fits):
        return today if judged(new).fits else versions
    differ = _differing(by_new, by_old)
    if differ:
        raise RefusedError(
            "the checkpoint does not say which version of the model's code saved it",
            found=f"no versions in {name}; {listed(differ, 3)} would have other values if "
            "converted from an older one",
            expected="the versions that torch.save(model.state_dict(), path) keeps in its "
            f"_metadata, as {type(model).__name__} converts older weights when it loads them",
            fix="load it into the model as you do in training, and save that: "
            "torch.save(model.state_dict(), path)",
        )
    return today


def _differing(model: nn.Module, other: nn.Module) -> list[str]:
    """The names of tensors whose values differ."""
    a, b = tensors_of(model), tensors_of(other)
    return [k for k in {**a, **b} if k not in a or k not in b or not torch.equal(a[k], b[k])]
