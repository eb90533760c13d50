"""The provenance of results, one JSON string in the tree, and what must hold of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import xarray as xr

# What runs are matched by, and the coordinate of a comparison that says where checkpoints lie.
ALIGNMENTS = {"step": "step", "epoch": "epoch", "loss": "training_loss"}
PARTS = ("proof", "plan", "run", "model", "probes", "versions", "reading", "training")


def provenance(tree: xr.DataTree) -> dict[str, Any]:
    """The provenance of results or of a comparison; empty where there is none."""
    origin = json.loads(tree.attrs.get("provenance", "{}"))
    return origin if isinstance(origin, dict) else {}


def along(comparison: xr.DataTree) -> str:
    """The coordinate of a comparison by which its checkpoints are matched."""
    return ALIGNMENTS[provenance(comparison)["align"]]


def provenance_faults(text: object) -> list[str]:
    """What keeps the provenance of a file from being ours."""
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


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


def _checkpoints(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, dict) and _text(v.get("checkpoint")) for v in value
    )


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


FACTS: dict[str, Callable[[Any], bool]] = {
    "held_out": _texts, "warnings": _texts, "checkpoints": _checkpoints,
    "versions": _texts_by_name, "cells": _texts, "probes_sha256": _text, "inputs_sha256": _text,
    "batch_norm": _text, "loss": _text, "precision": _text, "device": _text, "command": _text,
    "created": _text, "proof.relative_errors": _numbers_by_name,
    "proof.zero_to_rounding": _texts, "proof.unproven": _texts, "plan.methods": _texts_by_name,
}  # fmt: skip
