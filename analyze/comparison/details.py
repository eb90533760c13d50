"""The data from which the page draws the layer, subset and pair that a reader chooses."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from analyze.figures.looks import run_look
from analyze.figures.names import plain
from analyze.figures.run_lines import training_of
from analyze.pages.embedding import packed, packed_steps
from analyze.statistics.regrouping import provenance
from analyze.statistics.significance import RATE

NETWORK = "whole network"
MOST_CELLS = 2_000_000  # values of all pairs, beyond which a page has pairs with the first run only


def details(comparison: xr.DataTree) -> dict[str, Any]:
    """The data of the page's script.

    Values of the runs are [run, row, subset, checkpoint] in float32, those of pairs
    [pair, row, subset, checkpoint] in steps of 1/32,767 of the largest; the network is the first
    row, the layers follow.
    """
    along = training_of(comparison)
    align = provenance(comparison)["align"]
    network, layers = (comparison[name].to_dataset() for name in ("network", "layers"))
    pairs = shown_pairs(comparison)
    ratio = _stacked(comparison, "pairs/{}", "log_ratio").sel(pair=pairs)
    upper = _stacked(comparison, "pairs/{}", "log_ratio_upper").sel(pair=pairs)
    significant = _stacked(comparison, "pairs/{}", "p_value_adjusted").sel(pair=pairs) <= RATE
    value = _stacked(comparison, "{}", "m_coherence")
    with_interval = "m_coherence_upper" in network
    top = _stacked(comparison, "{}", "m_coherence_upper") if with_interval else value * np.nan
    return {
        "runs": _runs([str(name) for name in network["run"].values]),
        "rows": [NETWORK, *(plain(str(name)) for name in layers["layer"].values)],
        "subsets": [plain(str(name)) for name in network["subset"].values],
        "counts": comparison.to_dataset()["probe_count"].transpose("run", "subset").values.tolist(),
        "along": {
            "label": along.label,
            "values": along.values.tolist(),
            "names": [f"{align} {name}" for name in along.names],
            "ticks": along.names,
            "falling": along.falling,
        },
        "groups": _groups(comparison),
        "pairs": _pairs(comparison, pairs),
        "m_coherence": packed(value.values),
        "half_width": packed((top - value).values),
        "log_ratio": packed_steps(ratio.values),
        "log_half_width": packed_steps((upper - ratio).values),
        "significant": packed(significant.values, "uint8"),
    }


def shown_pairs(comparison: xr.DataTree) -> list[str]:
    """The pairs on the page: all, or only those with the first run if all are too many."""
    pairs = comparison["pairs/layers"].to_dataset()
    names = [str(name) for name in pairs["pair"].values]
    if pairs["log_ratio"].size <= MOST_CELLS:
        return names
    return names[: comparison.sizes["run"] - 1]  # pairs are in the order of combinations


def _stacked(comparison: xr.DataTree, group: str, variable: str) -> xr.DataArray:
    """A variable of the network and, after it as further rows, of the layers."""
    network, layers = (
        comparison[group.format(name)].to_dataset()[variable] for name in ("network", "layers")
    )
    first = next(name for name in ("pair", "group", "run") if name in network.dims)
    rows = [network.expand_dims(layer=[NETWORK]), layers]
    plain_rows = [row.reset_coords(drop=True).drop_vars("layer") for row in rows]
    joined = xr.concat(plain_rows, "layer", coords="minimal", compat="override")
    return joined.transpose(first, "layer", "subset", "checkpoint")


def _runs(names: list[str]) -> list[dict[str, Any]]:
    """Each run's name and look."""
    return [{"name": plain(name), **run_look(k).data} for k, name in enumerate(names)]


def _groups(comparison: xr.DataTree) -> list[dict[str, Any]]:
    """Each group's name, look, runs by number, and its mean and half interval over seeds."""
    members = provenance(comparison).get("groups", {})
    if not members:
        return []
    runs = [str(name) for name in comparison["network"].to_dataset()["run"].values]
    mean = _stacked(comparison, "groups/{}", "m_coherence")
    half = _stacked(comparison, "groups/{}", "m_coherence_upper") - mean
    return [
        {
            "name": f"{plain(name)} ({len(names)} runs)",
            **run_look(k).data,
            "runs": [runs.index(run) for run in names],
            "m_coherence": packed(mean.isel(group=k).values),
            "half_width": packed(half.isel(group=k).values),
        }
        for k, (name, names) in enumerate(members.items())
    ]


def _pairs(comparison: xr.DataTree, names: list[str]) -> list[dict[str, Any]]:
    """Each pair's name, its two runs and the sizes at which they are compared."""
    sizes = comparison["pairs/network"].to_dataset()["compared_at"].sel(pair=names)
    rows = sizes.transpose("pair", "subset").values
    two = combinations(range(comparison.sizes["run"]), 2)
    return [
        {"name": plain(name), "first": a, "second": b, "m": [None if np.isnan(n) else n for n in m]}
        for name, (a, b), m in zip(names, two, rows, strict=False)
    ]
