"""The data from which the page draws the layer, subset and pair that a reader chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analyze.comparison.rows import side_name
from analyze.figures.looks import run_look
from analyze.figures.names import plain
from analyze.figures.run_lines import run_styles, training_of
from analyze.figures.training import Training
from analyze.pages.embedding import packed, packed_steps
from analyze.pages.sizes import offered
from analyze.probes.subsets import ALL
from analyze.results.presence import present
from analyze.results.sides import pair_names, sides_of
from analyze.statistics import jackknife
from analyze.statistics.regrouping import provenance
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import OF_RUNS, compared_at, smallest
from analyze.text import place_text

NETWORK = "whole network"
MOST_CELLS = 2_000_000  # values of pairs, beyond which a page has those with the first side only
WIDEST = float(np.log(1e9))  # half of the widest interval of a log ratio that the page has


def details(comparison: xr.DataTree) -> dict[str, Any]:
    """The data of the page's script.

    Values of runs, each at its own m, are [run, row, subset, checkpoint] in float32; the network is
    the first row, the layers follow. The script brings them to one of ``sizes``, takes geometric
    means over seeds, whose intervals need ``quantiles``, and divides two sides, at ``size``
    examples, for their ratio. Half the interval of its logarithm, at this size, is [pair, row,
    subset, checkpoint] in steps of 1/32,767 of the largest, ``WIDEST`` at most, and negative where
    the ratio is significant. ``absent``, [run, checkpoint], is 1 where a run has no checkpoint.
    """
    along = training_of(comparison)
    align = provenance(comparison)["align"]
    network, layers = (comparison[name].to_dataset() for name in ("network", "layers"))
    root = comparison.to_dataset()
    return {
        "size": compared_at(comparison),
        "sizes": _sizes(comparison),
        "quantiles": _quantiles(comparison.sizes["run"]),
        "rows": [NETWORK, *(plain(str(name)) for name in layers["layer"].values)],
        "subsets": [plain(str(name)) for name in network["subset"].values],
        "counts": root["probe_count"].transpose("run", "subset").values.tolist(),
        "along": {
            "label": along.label,
            "values": along.values.tolist(),
            "names": [f"{align} {name}" for name in _places(along)],
            "ticks": along.names,
            "falling": along.falling,
        },
        "runs": _runs(comparison),
        "sides": _sides(comparison),
        "pairs": _pairs(comparison),
        "absent": packed(~present(comparison).values, "uint8"),
        **_of_training(root),
        **_values(comparison),
        **_intervals(comparison),
    }


def _places(along: Training) -> list[str]:
    """The places in words: steps with all their digits."""
    return along.names if along.falling else [place_text(value) for value in along.values]


def shown_pairs(comparison: xr.DataTree) -> list[str]:
    """The pairs on the page: all, or only those with the first side if all are too many."""
    names = list(pair_names(sides_of(comparison)))
    if comparison["pairs/layers"].to_dataset()["log_ratio"].size <= MOST_CELLS:
        return names
    return names[: len(sides_of(comparison)) - 1]


def _of_training(root: xr.Dataset) -> dict[str, Any]:
    """Loss and accuracy of the runs, [run, subset, checkpoint]; ``accuracy`` where it is known."""
    known = [n for n in ("loss", "accuracy") if n in root and root[n].notnull().any()]
    return {n: packed(root[n].transpose("run", "subset", "checkpoint").values) for n in known} | {
        "loss_unit": root["loss"].attrs.get("units", "nats")
    }


def _values(comparison: xr.DataTree) -> dict[str, Any]:
    """M-coherence of the runs with its interval, each at its own m."""
    network, layers = (comparison[name].to_dataset() for name in ("network", "layers"))
    names = ("m_coherence", "m_coherence_lower", "m_coherence_upper")
    return {n: packed(_stacked(network, layers, n).values) for n in names if n in network}


def _sizes(comparison: xr.DataTree) -> list[dict[str, Any]]:
    """The sizes on the page: the one shown at first, that of the ratios, those of all and alpha."""
    counts = comparison.to_dataset()["probe_count"]
    numbers = [compared_at(comparison), smallest(counts.sel(subset=counts["subset"] == ALL).values)]
    return offered(comparison, [*filter(None, numbers), *OF_RUNS])


def _quantiles(most: int) -> list[float | None]:
    """Student's two-sided 95 % quantile for the interval of a mean of 0, 1, 2, ... runs."""
    found = np.asarray(jackknife.t_quantile(np.arange(most + 1) - 1.0))
    return [float(value) if np.isfinite(value) else None for value in found]


def _intervals(comparison: xr.DataTree) -> dict[str, Any]:
    """Half the interval of the log ratio of each pair, negative where it is significant."""
    pairs = shown_pairs(comparison)
    tables = [comparison[f"pairs/{n}"].to_dataset().sel(pair=pairs) for n in ("network", "layers")]
    ratio, upper, p = (
        _stacked(tables[0], tables[1], name).values
        for name in ("log_ratio", "log_ratio_upper", "p_value_adjusted")
    )
    half = np.minimum(upper - ratio, WIDEST)
    found = p <= RATE
    step = np.nanmax(half, initial=0.0) / 32767
    # A narrow one that is rounded to no step would lose its sign.
    return {"log_half_width": packed_steps(np.where(found, -np.maximum(half, step), half))}


def _stacked(network: xr.Dataset, layers: xr.Dataset, variable: str) -> xr.DataArray:
    """A variable of the network and, after it as further rows, of the layers."""
    first = next(name for name in ("pair", "group", "run") if name in network[variable].dims)
    rows = [network[variable].expand_dims(layer=[NETWORK]), layers[variable]]
    plain_rows = [row.reset_coords(drop=True).drop_vars("layer") for row in rows]
    joined = xr.concat(plain_rows, "layer", coords="minimal", compat="override")
    return joined.transpose(first, "layer", "subset", "checkpoint")


def _runs(comparison: xr.DataTree) -> list[dict[str, Any]]:
    """Each run's name, the number of its side, and the look that it shares with that."""
    styles = run_styles(comparison)
    runs = [str(name) for name in comparison["network"].to_dataset()["run"].values]
    return [
        {"name": plain(name), "side": styles[name], **run_look(styles[name]).data} for name in runs
    ]


def _sides(comparison: xr.DataTree) -> list[dict[str, Any]]:
    """Each side's name and look, its runs by number, and the number of its group, if it is one."""
    runs = [str(name) for name in comparison["network"].to_dataset()["run"].values]
    groups = list(provenance(comparison).get("groups") or {})
    return [
        {
            "name": plain(side.name),
            "label": plain(side_name(side)),
            "runs": [runs.index(run) for run in side.runs],
            "group": groups.index(side.name) if side.is_group else None,
            **run_look(k).data,
        }
        for k, side in enumerate(sides_of(comparison))
    ]


def _pairs(comparison: xr.DataTree) -> list[dict[str, Any]]:
    """Each pair's name, its two sides by number, and whether it is tested over seeds."""
    sides = sides_of(comparison)
    names, shown = pair_names(sides), shown_pairs(comparison)
    return [
        {
            "name": plain(name),
            "first": sides.index(a),
            "second": sides.index(b),
            "seeds": a.is_group or b.is_group,
        }
        for name, (a, b) in names.items()
        if name in shown
    ]
