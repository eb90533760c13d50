"""What a results file must hold to be ours: groups, variables, their dimensions, its provenance."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.statistics.variables import VARIABLES

NUMBER, TEXT = "iufb", "UOS"
COHERENCE = ("m_coherence", "m_coherence_stderr")
# Dimensions and kind of what must be there, by group.
REQUIRED: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "/": {
        "checkpoint": (("checkpoint",), TEXT), "step": (("checkpoint",), NUMBER),
        "epoch": (("checkpoint",), NUMBER), "status": (("checkpoint",), TEXT),
        "subset": (("subset",), TEXT), "loss": (("checkpoint", "subset"), NUMBER),
        "accuracy": (("checkpoint", "subset"), NUMBER), "probe_count": (("subset",), NUMBER),
    },
    "/network": dict.fromkeys(COHERENCE, (("checkpoint", "subset"), NUMBER)),
    "/layers": {
        "layer": (("layer",), TEXT), "layer_type": (("layer",), TEXT),
        "parameter_count": (("layer",), NUMBER),
        **dict.fromkeys(COHERENCE, (("checkpoint", "layer", "subset"), NUMBER)),
    },
    "/parameters": {
        "parameter": (("parameter",), TEXT), "layer": (("parameter",), TEXT),
        "cell": (("cell",), TEXT), "cell_subset": (("cell",), TEXT),
        "cell_fold": (("cell",), NUMBER), "probe_count": (("cell",), NUMBER),
        "gradient_gram": (("checkpoint", "parameter", "cell", "cell_other"), NUMBER),
        "gradient_sqnorm": (("checkpoint", "parameter", "cell"), NUMBER),
    },
}  # fmt: skip
UNIQUE = {
    "/": ("checkpoint", "subset"),
    "/layers": ("layer",),
    "/parameters": ("parameter", "cell"),
}
PARTS = ("proof", "plan", "run", "model", "probes", "versions", "reading", "training")
PAIRS = [name for name, variable in VARIABLES.items() if variable.between]


def faults(tree: xr.DataTree) -> list[str]:
    """What keeps a tree from being results of ours; empty where nothing does."""
    missing = [name for group in REQUIRED for name in _lacking(tree, group)]
    if missing:
        return [f"{listed(missing)} missing"]
    found = [fault for group in REQUIRED for fault in _of_other_form(tree, group)]
    return found or [*_labels(tree), *_coherence(tree), *_attributes(tree)]


def provenance_faults(text: object) -> list[str]:
    """What keeps the provenance of a file from being ours."""
    try:
        origin = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        origin = None
    if not isinstance(origin, dict):
        return ["a provenance that is no JSON object"]
    if not _parts(origin):
        return ["a provenance with parts that are no objects"]
    parts = {f"{part}.{k}": v for part in PARTS for k, v in (origin.get(part) or {}).items()}
    facts = origin | parts
    return [
        f"{name} = {str(facts[name])[:60]} in the provenance"
        for name, good in FACTS.items()
        if facts.get(name) is not None and not good(facts[name])
    ]


def _parts(origin: dict[str, Any]) -> bool:
    return all(origin.get(name) is None or isinstance(origin[name], dict) for name in PARTS)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _records(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, dict) and isinstance(v.get("checkpoint"), str) for v in value
    )


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        v is None or (isinstance(v, int | float) and not isinstance(v, bool))
        for v in value.values()
    )


def _words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _word(value: Any) -> bool:
    return isinstance(value, str)


FACTS: dict[str, Callable[[Any], bool]] = {
    "held_out": _texts, "warnings": _texts, "checkpoints": _records, "versions": _words,
    "cells": _texts, "probes_sha256": _word, "inputs_sha256": _word, "batch_norm": _word,
    "loss": _word, "precision": _word, "device": _word, "command": _word, "created": _word,
    "proof.relative_errors": _numbers, "proof.zero_to_rounding": _texts, "proof.unproven": _texts,
    "plan.methods": _words,
}  # fmt: skip


def _lacking(tree: xr.DataTree, group: str) -> list[str]:
    present = set(tree[group].variables) if group in tree.groups else set()
    return [f"{group.rstrip('/')}/{name}" for name in sorted(REQUIRED[group].keys() - present)]


def _of_other_form(tree: xr.DataTree, group: str) -> list[str]:
    found = []
    for name, (dims, kinds) in REQUIRED[group].items():
        variable = tree[group].variables[name]
        if set(variable.dims) != set(dims) or variable.dtype.kind not in kinds:
            form = f"{', '.join(map(str, variable.dims))} of {variable.dtype}"
            found.append(f"{group.rstrip('/')}/{name} ({form})")
    return found


def _labels(tree: xr.DataTree) -> list[str]:
    """Names by which rows are found: each once, texts, and those of the subsets the same."""
    found = []
    for group, names in UNIQUE.items():
        for name in names:
            labels = _texts_of(tree, group, name)
            if len(set(labels)) != len(labels) or not labels:
                found.append(f"labels of {group.rstrip('/')}/{name} that are not different texts")
    subsets = _texts_of(tree, "/", "subset")
    if ALL not in subsets:
        found.append(f"no subset {ALL!r}")
    if not set(_texts_of(tree, "/parameters", "cell_subset")) <= set(subsets):
        found.append("cells of other subsets")
    if not set(_texts_of(tree, "/parameters", "layer")) <= set(_texts_of(tree, "/layers", "layer")):
        found.append("parameters of other layers")
    return found


def _texts_of(tree: xr.DataTree, group: str, name: str) -> list[str]:
    return [
        v if isinstance(v, str) else repr(v) for v in tree[group].variables[name].values.tolist()
    ]


def _coherence(tree: xr.DataTree) -> list[str]:
    """Variables of coherence that are there have the dimensions of the others."""
    found = []
    for group, own in (("network", set()), ("layers", {"layer"})):
        table = tree.children[group].to_dataset(inherit=False)
        for name, variable in table.data_vars.items():
            dims = {"checkpoint", "subset", *own} | ({"subset_other"} if name in PAIRS else set())
            ours = variable.attrs.get("long_name") is not None or name in PAIRS
            if ours and (set(variable.dims) != dims or variable.dtype.kind not in NUMBER):
                found.append(f"/{group}/{name} ({', '.join(map(str, variable.dims))})")
    return found


def _attributes(tree: xr.DataTree) -> list[str]:
    """Units and names that figures show are texts."""
    return [
        f"{name} of {variable} that is no text"
        for group in tree.subtree
        for variable, values in group.variables.items()
        for name in ("units", "long_name")
        if not isinstance(values.attrs.get(name, ""), str | np.str_)
    ]
