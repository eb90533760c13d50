"""The schema of results files: groups, variables and their dimensions."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.statistics.variables import VARIABLES
from analyze.statistics.warnings import FLAGS

NUMBER, TEXT = "iufb", "UOS"
COHERENCE = ("m_coherence", "m_coherence_stderr")
# Dimensions and kind of every required variable, by group.
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
# Of variables that may be missing.
OPTIONAL = {
    "/": {
        **dict.fromkeys(
            ("loss_saved", "loss_recomputed", "loss_per_token"), (("checkpoint", "subset"), NUMBER)
        ),
        "token_count": (("subset",), NUMBER),
    },
}
UNIQUE = {
    "/": ("checkpoint", "subset"),
    "/layers": ("layer",),
    "/parameters": ("parameter", "cell"),
}
PAIRS = [name for name, variable in VARIABLES.items() if variable.between]


def faults(tree: xr.DataTree) -> list[str]:
    """The reasons why a tree is no results tree; empty for results."""
    missing = [name for group in REQUIRED for name in _missing(tree, group)]
    if missing:
        return [f"{listed(missing)} missing"]
    wrong = [fault for group in REQUIRED for fault in _of_other_form(tree, group)]
    return wrong or [*_labels(tree), *_coherence(tree), *_attributes(tree)]


def _missing(tree: xr.DataTree, group: str) -> list[str]:
    present = set(tree[group].variables) if group in tree.groups else set()
    return [f"{group.rstrip('/')}/{name}" for name in sorted(REQUIRED[group].keys() - present)]


def _of_other_form(tree: xr.DataTree, group: str) -> list[str]:
    wrong = []
    forms = REQUIRED[group] | OPTIONAL.get(group, {})
    for name, (dims, kinds) in forms.items():
        if name not in tree[group].variables:
            continue
        variable = tree[group].variables[name]
        if set(variable.dims) != set(dims) or variable.dtype.kind not in kinds:
            form = f"{', '.join(map(str, variable.dims))} of {variable.dtype}"
            wrong.append(f"{group.rstrip('/')}/{name} ({form})")
    return wrong


def _labels(tree: xr.DataTree) -> list[str]:
    """Faults of labels: they are different texts, and groups have the same subsets and layers."""
    wrong = []
    for group, names in UNIQUE.items():
        for name in names:
            labels = _texts_of(tree, group, name)
            if len(set(labels)) != len(labels) or not labels:
                wrong.append(f"labels of {group.rstrip('/')}/{name} that are not different texts")
    subsets = _texts_of(tree, "/", "subset")
    if ALL not in subsets:
        wrong.append(f"no subset {ALL!r}")
    if not set(_texts_of(tree, "/parameters", "cell_subset")) <= set(subsets):
        wrong.append("cells of other subsets")
    if not set(_texts_of(tree, "/parameters", "layer")) <= set(_texts_of(tree, "/layers", "layer")):
        wrong.append("parameters of other layers")
    return wrong


def _texts_of(tree: xr.DataTree, group: str, name: str) -> list[str]:
    return [
        v if isinstance(v, str) else repr(v) for v in tree[group].variables[name].values.tolist()
    ]


def _coherence(tree: xr.DataTree) -> list[str]:
    """Faults of derived variables: each has the dimensions of its group."""
    wrong = []
    for group, further in (("network", set()), ("layers", {"layer"})):
        table = tree.children[group].to_dataset(inherit=False)
        for name, variable in table.data_vars.items():
            dims = {"checkpoint", "subset", *further} | (
                {"subset_other"} if name in PAIRS else set()
            )
            checked = variable.attrs.get("long_name") is not None or name in (*VARIABLES, FLAGS)
            if checked and (set(variable.dims) != dims or variable.dtype.kind not in NUMBER):
                wrong.append(f"/{group}/{name} ({', '.join(map(str, variable.dims))})")
    return wrong


def _attributes(tree: xr.DataTree) -> list[str]:
    """Faults of attributes: units and names, which figures show, are texts."""
    return [
        f"{name} of {variable} that is no text"
        for group in tree.subtree
        for variable, values in group.variables.items()
        for name in ("units", "long_name")
        if not isinstance(values.attrs.get(name, ""), str | np.str_)
    ]
