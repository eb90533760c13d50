"""The results tree: what was measured, as labelled data with everything derived from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import Cells, ProbeSet
from analyze.probes.subsets import ALL
from analyze.statistics import warnings
from analyze.statistics.derived import derived

SCHEMA_VERSION = 1
EXAMPLES_LIMIT = 256 << 20  # bytes of /examples that `auto` writes
OK = "ok"


@dataclass(frozen=True)
class Row:
    """One checkpoint of the results: its measurement, or why there is none."""

    checkpoint: str
    step: float
    epoch: float
    status: str
    measurement: Measurement | None


def build_tree(
    rows: Sequence[Row],
    parameters: Sequence[ParameterRow],
    probes: ProbeSet,
    cells: Cells,
    provenance: Mapping[str, Any],
    *,
    examples: bool,
    positions: np.ndarray | None = None,
) -> xr.DataTree:
    """The tree of the results file.

    Args:
        rows: The checkpoints in order; those that were skipped are rows of NaN.
        parameters: In the order of the results.
        probes: What was measured on.
        cells: How the probes were summed.
        provenance: Becomes one JSON string, with the warnings about the run as a whole.
        examples: Whether to give every example's squared norm.
        positions: ``[N]``, how many (tokens, pixels) each probe's loss is the sum of; None where
            that is no sum.
    """
    along = _checkpoint_coordinates(rows)
    measured = {
        "/": _root(rows, probes, along, positions),
        "/parameters": _parameters(rows, parameters, cells, along),
    }
    if examples:
        measured["/examples"] = _examples(rows, parameters, probes, cells, along)
    tree = xr.DataTree.from_dict(measured)
    tree.attrs = {"schema_version": SCHEMA_VERSION, "provenance": json.dumps(provenance)}
    groups = {"/": measured.pop("/"), **derived(tree), **measured}
    groups["layers"] = groups["layers"].assign_coords(_layer_coordinates(parameters))
    known = provenance.get("warnings", [])
    said = {**provenance, "warnings": [*known, *warnings.lagging_sentence(tree)]}
    whole = {path: dataset.assign_coords(along) for path, dataset in groups.items()}
    result = xr.DataTree.from_dict(whole)
    result.attrs = tree.attrs | {"provenance": json.dumps(said)}
    return result


def examples_fit(checkpoints: int, layers: int, probes: int) -> bool:
    """Whether ``/examples`` is small enough for ``auto`` to write it."""
    return 4 * checkpoints * layers * probes <= EXAMPLES_LIMIT


def _checkpoint_coordinates(rows: Sequence[Row]) -> dict[str, Any]:
    """What every group carries, as xarray hands down neither step nor epoch."""
    return {
        "checkpoint": ("checkpoint", np.array([r.checkpoint for r in rows], dtype=object)),
        "step": ("checkpoint", np.array([r.step for r in rows]), {"long_name": "optimizer step"}),
        "epoch": ("checkpoint", np.array([r.epoch for r in rows]), {"long_name": "epoch"}),
    }


def _root(
    rows: Sequence[Row],
    probes: ProbeSet,
    along: Mapping[str, Any],
    positions: np.ndarray | None,
) -> xr.Dataset:
    """Loss and accuracy of each subset, and how many probes it has."""
    names = [*probes.subset_names, ALL]
    held = [probes.subset_names.index(name) for name in probes.held_out]
    which = [probes.subset == code for code in range(len(probes.subset_names))]
    which.append(~np.isin(probes.subset, held))
    dims = ("checkpoint", "subset")

    def means(field: str, long_name: str, units: str) -> tuple[Any, ...] | None:
        values = [None if r.measurement is None else getattr(r.measurement, field) for r in rows]
        if all(v is None for v in values):
            return None
        table = [[np.nan if v is None else _mean(v[w]) for w in which] for v in values]
        return dims, np.array(table), {"long_name": long_name, "units": units}

    variables = {
        "loss": means("loss", "mean loss", "nats"),
        "accuracy": means("accuracy", "share of right predictions", "1"),
        "loss_saved": means(
            "loss_saved", "mean loss with the batch norm statistics of the checkpoint", "nats"
        ),
        "loss_recomputed": means(
            "loss_recomputed", "mean loss with recomputed batch norm statistics", "nats"
        ),
        "probe_count": (
            "subset",
            np.array([int(w.sum()) for w in which]),
            {"long_name": "number of probes", "units": "1"},
        ),
    }
    if positions is not None and variables["loss"] is not None:
        variables |= _per_token(variables["loss"][1], which, positions)
    status = ("checkpoint", np.array([r.status for r in rows], dtype=object))
    present = {name: value for name, value in variables.items() if value is not None}
    if "loss" not in present:
        empty = np.full((len(rows), len(names)), np.nan)
        present |= {"loss": (dims, empty), "accuracy": (dims, empty)}
    return xr.Dataset(present, {**along, "subset": names, "status": status})


def _per_token(
    loss: np.ndarray, which: Sequence[np.ndarray], positions: np.ndarray
) -> dict[str, Any]:
    """The mean loss of a position that counts, as trainers print it, and how many there are."""
    counts = np.array([int(positions[w].sum()) for w in which])
    probes = np.array([int(w.sum()) for w in which])
    share = np.divide(probes, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    named = {"long_name": "mean loss of a token (position) that counts", "units": "nats"}
    counted = {"long_name": "number of tokens (positions) that count", "units": "1"}
    return {
        "loss_per_token": (("checkpoint", "subset"), loss * share, named),
        "token_count": ("subset", counts, counted),
    }


def _parameters(
    rows: Sequence[Row], parameters: Sequence[ParameterRow], cells: Cells, along: Mapping[str, Any]
) -> xr.Dataset:
    """The sufficient statistics."""
    count, size = len(parameters), len(cells)
    gram = np.full((len(rows), count, size, size), np.nan)
    squared = np.full((len(rows), count, size), np.nan)
    for k, row in enumerate(rows):
        if row.measurement is not None:
            place = {name: p for p, name in enumerate(row.measurement.parameters)}
            order = [place[parameter.name] for parameter in parameters]
            gram[k], squared[k] = row.measurement.gram[order], row.measurement.squared_norms[order]
    names = np.array(cells.names, dtype=object)
    unit = "(loss per unit of weight)^2"
    return xr.Dataset(
        {
            "gradient_gram": (
                ("checkpoint", "parameter", "cell", "cell_other"),
                gram,
                {"long_name": "dot products of the cells' gradient sums", "units": unit},
            ),
            "gradient_sqnorm": (
                ("checkpoint", "parameter", "cell"),
                squared,
                {"long_name": "sum of squared norms of per-example gradients", "units": unit},
            ),
            "probe_count": (
                "cell",
                cells.counts,
                {"long_name": "number of probes", "units": "1"},
            ),
        },
        {
            **along,
            "parameter": np.array([p.name for p in parameters], dtype=object),
            "layer": ("parameter", np.array([p.layer for p in parameters], dtype=object)),
            "aliases": (
                "parameter",
                np.array([", ".join(p.aliases) for p in parameters], dtype=object),
            ),
            "method": ("parameter", np.array([p.method for p in parameters], dtype=object)),
            "parameter_count": ("parameter", np.array([p.size for p in parameters])),
            "cell": names,
            "cell_other": names,
            "cell_subset": (
                "cell",
                np.array([cells.subset_names[s] for s in cells.subset], dtype=object),
            ),
            "cell_fold": ("cell", cells.fold),
            **{f"cell_{name}": ("cell", labels) for name, labels in cells.columns.items()},
        },
    )


def _layer_coordinates(parameters: Sequence[ParameterRow]) -> dict[str, Any]:
    types: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for parameter in parameters:
        types[parameter.layer] = parameter.layer_type
        sizes[parameter.layer] = sizes.get(parameter.layer, 0) + parameter.size
    return {
        "layer_type": ("layer", np.array(list(types.values()), dtype=object)),
        "parameter_count": ("layer", np.array(list(sizes.values()))),
    }


def _examples(
    rows: Sequence[Row],
    parameters: Sequence[ParameterRow],
    probes: ProbeSet,
    cells: Cells,
    along: Mapping[str, Any],
) -> xr.Dataset:
    """Every example's squared norm in every layer, and its loss."""
    layers = list(dict.fromkeys(p.layer for p in parameters))
    norms = np.full((len(rows), len(layers), len(probes)), np.nan, dtype=np.float32)
    loss = np.full((len(rows), len(probes)), np.nan)
    for k, row in enumerate(rows):
        measured = row.measurement
        if measured is None or measured.examples is None:
            continue
        loss[k] = measured.loss
        place = {name: p for p, name in enumerate(measured.parameters)}
        for n, layer in enumerate(layers):
            own = [place[p.name] for p in parameters if p.layer == layer]
            norms[k, n] = measured.examples[own].sum(0)
    subset = np.array([probes.subset_names[s] for s in probes.subset], dtype=object)
    flat = probes.targets.reshape(len(probes), -1)
    target = flat[:, 0] if flat.shape[1] == 1 else np.array([str(t.tolist()) for t in flat], object)
    return xr.Dataset(
        {
            "gradient_sqnorm": (
                ("checkpoint", "layer", "probe"),
                norms,
                {
                    "long_name": "squared norm of the example's gradient",
                    "units": "(loss per unit of weight)^2",
                },
            ),
            "loss": (("checkpoint", "probe"), loss, {"long_name": "loss", "units": "nats"}),
        },
        {
            **along,
            "layer": np.array(layers, dtype=object),
            "probe": probes.id,
            "subset": ("probe", subset),
            "target": ("probe", target),
            **{n: ("probe", labels[cells.of_probe]) for n, labels in cells.columns.items()},
        },
    )


def _mean(values: np.ndarray) -> float:
    """The mean, NaN without a warning where nothing has a value."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
