"""The provenance of results, one JSON string in the tree, and its faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import xarray as xr

from analyze.statistics.regrouping import provenance

# How runs are matched, and the coordinate of a comparison by which its checkpoints are.
ALIGNMENTS = {"step": "step", "epoch": "epoch", "loss": "training_loss"}
PARTS = (
    "proof", "plan", "run", "model", "probes", "versions", "reading", "training", "verification",
)  # fmt: skip
PRECISIONS = ("float32", "float64")


def along(comparison: xr.DataTree) -> str:
    """The coordinate of a comparison by which its checkpoints are matched."""
    return ALIGNMENTS[provenance(comparison)["align"]]


def provenance_faults(text: object) -> list[str]:
    """The entries of a file's provenance that no version of the program writes."""
    try:
        origin = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        origin = None
    if not isinstance(origin, dict):
        return ["a provenance that is no JSON object"]
    parts = {name: origin[name] for name in PARTS if origin.get(name) is not None}
    if not all(isinstance(part, dict) for part in parts.values()):
        return ["a provenance with parts that are no objects"]
    facts = origin | {f"{name}.{k}": v for name, part in parts.items() for k, v in part.items()}
    return [
        f"{name} = {str(facts[name])[:60]} in the provenance"
        for name, good in FACTS.items()
        if facts.get(name) is not None and not good(facts[name])
    ]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _checkpoint(value: Any) -> bool:
    return isinstance(value, dict) and _text(value.get("checkpoint"))


def _list_of(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(good, value))


def _by_name(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(good, value.values()))


_texts, _texts_by_name = _list_of(_text), _by_name(_text)
FACTS: dict[str, Callable[[Any], bool]] = {
    "held_out": _texts, "warnings": _texts, "checkpoints": _list_of(_checkpoint),
    "versions": _texts_by_name, "cells": _texts, "probes_sha256": _text, "inputs_sha256": _text,
    "batch_norm": _text, "loss": _text, "precision": PRECISIONS.__contains__, "device": _text,
    "command": _text, "created": _text, "proof.relative_errors": _by_name(_number),
    "proof.zero_to_rounding": _texts, "proof.unproven": _texts, "plan.methods": _texts_by_name,
    "verification.agreement": _text, "verification.compared_with_autograd_alone": _count,
    "verification.measured_again_in_another_batch": _count,
}  # fmt: skip
