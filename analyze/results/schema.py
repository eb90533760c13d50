"""The schema of results files: groups, variables and their dimensions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.statistics.labelled_examples import RATE
from analyze.statistics.variables import VARIABLES
from analyze.statistics.warnings import FLAGS, are_flags

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
        "parameter_count": (("parameter",), NUMBER),
        "cell": (("cell",), TEXT), "cell_subset": (("cell",), TEXT),
        "cell_fold": (("cell",), NUMBER), "probe_count": (("cell",), NUMBER),
        "gradient_gram": (("checkpoint", "parameter", "cell", "cell_other"), NUMBER),
        "gradient_sqnorm": (("checkpoint", "parameter", "cell"), NUMBER),
    },
}  # fmt: skip
# Of groups that may be missing.
EXAMPLES, ALONG = "/examples", ("alignment", "direction", "direction_norm")
OF_EXAMPLES: dict[str, tuple[tuple[str, ...], str]] = {
    "layer": (("layer",), TEXT), "probe": (("probe",), "iu"),
    "subset": (("probe",), TEXT), "target": (("probe",), NUMBER + TEXT),
    "gradient_sqnorm": (("checkpoint", "layer", "probe"), NUMBER),
    "loss": (("checkpoint", "probe"), NUMBER),
}  # fmt: skip
# Of variables that may be missing.
OPTIONAL = {
    "/": {
        **dict.fromkeys(
            ("loss_saved", "loss_recomputed", "loss_per_token"), (("checkpoint", "subset"), NUMBER)
        ),
        "token_count": (("subset",), NUMBER),
    },
    EXAMPLES: {
        "alignment": (("checkpoint", "direction", "layer", "probe"), NUMBER),
        "direction": (("direction",), TEXT),
        "direction_norm": (("checkpoint", "direction", "layer"), NUMBER),
        "margin": (("checkpoint", "probe"), NUMBER),
        RATE: (("checkpoint",), NUMBER),
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
    required = _required(tree)
    missing = [name for group in required for name in _missing(tree, group, required[group])]
    if missing:
        return [f"{listed(missing)} missing"]
    wrong = [fault for group in required for fault in _of_other_form(tree, group)]
    return wrong or [*_labels(tree), *_examples(tree), *_coherence(tree), *_attributes(tree)]


def _required(tree: xr.DataTree) -> dict[str, set[str]]:
    """The variables that each group must have; those of examples where it has some."""
    required = {group: set(forms) for group, forms in REQUIRED.items()}
    if EXAMPLES in tree.groups:
        along = set(ALONG) & set(_own(tree, EXAMPLES))
        required[EXAMPLES] = set(OF_EXAMPLES) | (set(ALONG) if along else set())
    return required


def _own(tree: xr.DataTree, group: str) -> Mapping[Hashable, xr.Variable]:
    """The variables of a group itself, without what it has from its parent."""
    found = {node.path: node for node in tree.subtree}.get(group)
    return {} if found is None else found.to_dataset(inherit=False).variables


def _missing(tree: xr.DataTree, group: str, required: set[str]) -> list[str]:
    present = set(map(str, _own(tree, group)))
    return [f"{group.rstrip('/')}/{name}" for name in sorted(required - present)]


def _of_other_form(tree: xr.DataTree, group: str) -> list[str]:
    wrong = []
    forms = REQUIRED.get(group, OF_EXAMPLES) | OPTIONAL.get(group, {})
    present = _own(tree, group)
    for name, (dims, kinds) in forms.items():
        if name not in present:
            continue
        variable = present[name]
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


def _examples(tree: xr.DataTree) -> list[str]:
    """Faults of single examples: each is there once, with the subsets and layers of the run."""
    table = _own(tree, EXAMPLES)
    if not table:
        return []
    wrong = []
    for name in ("probe", "layer", "direction"):
        labels = table[name].values.tolist() if name in table else []
        if len(set(labels)) != len(labels) or (not labels and name in table):
            wrong.append(f"labels of {EXAMPLES}/{name} that are not different")
    if set(table["layer"].values.tolist()) != set(_texts_of(tree, "/layers", "layer")):
        wrong.append("examples with other layers")
    root = tree["/"].variables
    counted = dict(zip(root["subset"].values.tolist(), root["probe_count"].values, strict=True))
    found = Counter(table["subset"].values.tolist())
    if {k: v for k, v in counted.items() if k != ALL and v > 0} != found:
        wrong.append("examples of other subsets")
    return wrong


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
            elif name == FLAGS and not are_flags(variable.values):
                wrong.append(f"/{group}/{name} with numbers that stand for no warnings")
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
