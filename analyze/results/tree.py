"""The results tree: measurements as labelled data, with everything derived from them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import Cells, ProbeSet
from analyze.probes.subsets import ALL
from analyze.results.variables import described
from analyze.statistics import warnings
from analyze.statistics.arrays import ratio
from analyze.statistics.derived import derived
from analyze.statistics.labelled_examples import RATE

SCHEMA_VERSION = 1
EXAMPLES_LIMIT = 256 << 20  # bytes, the most that `auto` writes to /examples
OK = "ok"


@dataclass(frozen=True)
class Row:
    """One checkpoint of the results: its measurement, or why there is none."""

    checkpoint: str
    step: float
    epoch: float
    status: str
    measurement: Measurement | None
    learning_rate: float = math.nan


def build_tree(
    rows: Sequence[Row],
    parameters: Sequence[ParameterRow],
    probes: ProbeSet,
    cells: Cells,
    provenance: Mapping[str, Any],
    *,
    examples: bool,
    positions: np.ndarray | None = None,
    directions: Sequence[str] = (),
) -> xr.DataTree:
    """The results tree of a run, with or without the group ``/examples``.

    Skipped checkpoints are rows of NaN. Warnings may be added to the provenance. ``positions``
    ``[N]`` is the number of tokens or pixels that each probe's loss sums over, if it is a sum.
    ``directions`` names those of the alignments, which are in ``/examples`` as well.
    """
    axis = _checkpoint_axis(rows)
    measured = {
        "/": _root(rows, probes, axis, positions),
        "/parameters": _parameters(rows, parameters, cells, axis),
    }
    if examples:
        of_probes = _examples(rows, parameters, probes, cells, axis)
        along = _along(rows, parameters, directions, len(probes)) if directions else {}
        measured["/examples"] = described(of_probes.assign(along))
    return with_derived(measured, _layer_coordinates(parameters), provenance)


def with_derived(
    measured: Mapping[str, xr.Dataset], layers: Mapping[str, Any], provenance: Mapping[str, Any]
) -> xr.DataTree:
    """The results tree of the measured groups, with all that is derived from them.

    ``measured`` are the root group, ``/parameters``, and ``/examples`` where there are some;
    ``layers`` the coordinates of the layers. Warnings may be added to the provenance.
    """
    root, measured = measured["/"], {k: v for k, v in measured.items() if k != "/"}
    axis = {name: root[name] for name in ("checkpoint", "step", "epoch")}
    tree = xr.DataTree.from_dict({"/": root, **measured})
    tree.attrs = {"schema_version": SCHEMA_VERSION, "provenance": json.dumps(provenance)}
    groups = {"/": root, **derived(tree), **measured}
    groups["layers"] = groups["layers"].assign_coords(layers)
    sentences = [*provenance.get("warnings", []), *warnings.lagging_sentence(tree)]
    result = xr.DataTree.from_dict({k: group.assign_coords(axis) for k, group in groups.items()})
    result.attrs = tree.attrs | {"provenance": json.dumps({**provenance, "warnings": sentences})}
    return result


def examples_fit(checkpoints: int, layers: int, probes: int) -> bool:
    """Whether ``/examples`` is small enough for ``auto`` to write it."""
    return 4 * checkpoints * layers * probes <= EXAMPLES_LIMIT


def _checkpoint_axis(rows: Sequence[Row]) -> dict[str, Any]:
    """The coordinates that every group carries, as groups inherit neither step nor epoch."""
    return {
        "checkpoint": ("checkpoint", _texts(r.checkpoint for r in rows)),
        "step": ("checkpoint", [r.step for r in rows], {"long_name": "optimizer step"}),
        "epoch": ("checkpoint", [r.epoch for r in rows], {"long_name": "epoch"}),
    }


def _root(
    rows: Sequence[Row], probes: ProbeSet, axis: Mapping[str, Any], positions: np.ndarray | None
) -> xr.Dataset:
    """The root group: loss and accuracy of each subset, and its number of probes."""
    names = [*probes.subset_names, ALL]
    members = [np.flatnonzero(probes.subset == k) for k in range(len(probes.subset_names))]
    members.append(probes.training)
    dims = ("checkpoint", "subset")

    def means(field: str) -> tuple[Any, ...] | None:
        values = [None if r.measurement is None else getattr(r.measurement, field) for r in rows]
        if all(v is None for v in values):
            return None
        table = [[np.nan if v is None else _mean(v[m]) for m in members] for v in values]
        return dims, np.array(table)

    fields = ("loss", "accuracy", "loss_saved", "loss_recomputed")
    variables: dict[str, Any] = {k: v for k in fields if (v := means(k)) is not None}
    variables["probe_count"] = "subset", [len(m) for m in members]
    if "loss" not in variables:
        empty = np.full((len(rows), len(names)), np.nan)
        variables |= {"loss": (dims, empty), "accuracy": (dims, empty)}
    elif positions is not None:
        counts = np.array([int(positions[m].sum()) for m in members])
        share = ratio(np.array([len(m) for m in members]), counts)
        variables["loss_per_token"] = dims, variables["loss"][1] * share
        variables["token_count"] = "subset", counts
    status = ("checkpoint", _texts(r.status for r in rows))
    return described(xr.Dataset(variables, {**axis, "subset": names, "status": status}))


def _parameters(
    rows: Sequence[Row], parameters: Sequence[ParameterRow], cells: Cells, axis: Mapping[str, Any]
) -> xr.Dataset:
    """The group of the sufficient statistics, ``/parameters``."""
    count, size = len(parameters), len(cells)
    gram = np.full((len(rows), count, size, size), np.nan)
    squared = np.full((len(rows), count, size), np.nan)
    for k, row in enumerate(rows):
        if row.measurement is not None:
            place = {name: p for p, name in enumerate(row.measurement.parameters)}
            order = [place[parameter.name] for parameter in parameters]
            gram[k], squared[k] = row.measurement.gram[order], row.measurement.squared_norms[order]
    names = _texts(cells.names)
    dataset = xr.Dataset(
        {
            "gradient_gram": (("checkpoint", "parameter", "cell", "cell_other"), gram),
            "gradient_sqnorm": (("checkpoint", "parameter", "cell"), squared),
            "probe_count": ("cell", cells.counts),
        },
        {
            **axis,
            "parameter": _texts(p.name for p in parameters),
            "layer": ("parameter", _texts(p.layer for p in parameters)),
            "aliases": ("parameter", _texts(", ".join(p.aliases) for p in parameters)),
            "method": ("parameter", _texts(p.method for p in parameters)),
            "parameter_count": ("parameter", [p.size for p in parameters]),
            "cell": names,
            "cell_other": names,
            "cell_subset": ("cell", _texts(cells.subset_names[s] for s in cells.subset)),
            "cell_fold": ("cell", cells.fold),
            **{f"cell_{name}": ("cell", labels) for name, labels in cells.columns.items()},
        },
    )
    return described(dataset)


def _layer_coordinates(parameters: Sequence[ParameterRow]) -> dict[str, Any]:
    """The type of every layer and its number of weights, in the order of the layers."""
    types = {parameter.layer: parameter.layer_type for parameter in parameters}
    sizes: Counter[str] = Counter()
    for parameter in parameters:
        sizes[parameter.layer] += parameter.size
    return {
        "layer_type": ("layer", _texts(types.values())),
        "parameter_count": ("layer", list(sizes.values())),
    }


def _examples(
    rows: Sequence[Row],
    parameters: Sequence[ParameterRow],
    probes: ProbeSet,
    cells: Cells,
    axis: Mapping[str, Any],
) -> xr.Dataset:
    """The group ``/examples``: every example's squared norm in every layer, and its loss."""
    members = _members_of_layers(parameters)
    norms = np.full((len(rows), len(members), len(probes)), np.nan, dtype=np.float32)
    loss = np.full((len(rows), len(probes)), np.nan)
    for k, row in enumerate(rows):
        measured = row.measurement
        if measured is None or measured.examples is None:
            continue
        loss[k] = measured.loss
        norms[k] = _by_layer(measured.examples, measured, members)
    flat = probes.targets.reshape(len(probes), -1)
    target = flat[:, 0] if flat.shape[1] == 1 else np.array([str(t.tolist()) for t in flat], object)
    of_example = {"long_name": "squared norm of the example's gradient"}
    return xr.Dataset(
        {
            "gradient_sqnorm": (("checkpoint", "layer", "probe"), norms, of_example),
            "loss": (("checkpoint", "probe"), loss, {"long_name": "loss"}),
        },
        {
            **axis,
            RATE: ("checkpoint", [r.learning_rate for r in rows], {"long_name": "learning rate"}),
            "layer": _texts(members),
            "probe": probes.id,
            "subset": ("probe", _texts(probes.subset_names[s] for s in probes.subset)),
            "target": ("probe", target),
            **{n: ("probe", labels[cells.of_probe]) for n, labels in cells.columns.items()},
        },
    )


def _along(
    rows: Sequence[Row],
    parameters: Sequence[ParameterRow],
    directions: Sequence[str],
    probes: int,
) -> dict[str, Any]:
    """What ``/examples`` has of directions: alignments, the directions' norms, and margins.

    Parameters add up to a layer. Margins are left out where no probe has one.
    """
    members = _members_of_layers(parameters)
    shape = len(rows), len(directions), len(members)
    alignment = np.full((*shape, probes), np.nan, dtype=np.float32)
    norm, margin = np.full(shape, np.nan), np.full((len(rows), probes), np.nan)
    for k, row in enumerate(rows):
        measured = row.measurement
        if measured is None or measured.alignment is None:
            continue
        assert measured.direction_squares is not None
        assert measured.margin is not None
        for v in range(len(directions)):
            alignment[k, v] = _by_layer(measured.alignment[v], measured, members)
            norm[k, v] = np.sqrt(_by_layer(measured.direction_squares[v], measured, members))
        margin[k] = measured.margin
    found = {
        "direction": _texts(directions),
        "alignment": (("checkpoint", "direction", "layer", "probe"), alignment),
        "direction_norm": (("checkpoint", "direction", "layer"), norm),
        "margin": (("checkpoint", "probe"), margin),
    }
    return {k: v for k, v in found.items() if k != "margin" or not np.isnan(margin).all()}


def _members_of_layers(parameters: Sequence[ParameterRow]) -> dict[str, list[str]]:
    """The parameters of each layer, in forward order."""
    members: dict[str, list[str]] = {}
    for parameter in parameters:
        members.setdefault(parameter.layer, []).append(parameter.name)
    return members


def _by_layer(
    values: np.ndarray, measured: Measurement, members: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Values ``[P, ...]`` of a measurement's parameters summed up over each layer."""
    place = {name: p for p, name in enumerate(measured.parameters)}
    places = [[place[name] for name in names] for names in members.values()]
    return np.stack([values[of_layer].sum(0) for of_layer in places])


def _texts(values: Iterable[str]) -> np.ndarray:
    """Texts as an array of objects, as the file keeps texts of any length."""
    return np.array(list(values), dtype=object)


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
