"""Ratios of every two sides: of runs over their folds, of configurations over their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.comparison.alignment import Aligned
from analyze.comparison.groups import pairs_over_seeds
from analyze.comparison.matching import same_probes
from analyze.comparison.runs import joined
from analyze.errors import InputError
from analyze.results.sides import Side, pair_names
from analyze.statistics.noise_floor import adjusted_within
from analyze.statistics.ratios import log_ratio


def ratios(
    places: Aligned,
    sides: Sequence[Side],
    alphas: Sequence[xr.Dataset],
    values: xr.Dataset,
    size: int,
) -> xr.Dataset:
    """The ratios of every two sides, over ``pair``, ``B / A``, with the labels of ``values``.

    Args:
        places: The runs on common places.
        sides: Configurations, and runs of none; two seeds of one configuration are no pair.
        alphas: Unbiased alpha of each run at the places, with replicates.
        values: M-coherence of all runs at that size, of the network or of layers.
        size: The number of examples at which to compare.

    Returns:
        The variables of ``log_ratio``; ``compared_at``, the size; ``paired``, whether folds were
        left out of both at once; ``over_seeds``, whether the test is over seeds. P-values of the
        network are adjusted over all pairs and checkpoints of a subset, those of layers over all
        cells of a pair and subset.

    Raises:
        InputError: two runs have nothing in common.
    """
    runs = {run.name: k for k, run in enumerate(places.runs)}
    names = pair_names(sides)
    found = pairs_over_seeds(values, names)
    rows = {d: values[d].values for d in ("layer", "subset") if d in values.dims}
    tables = []
    for name, (a, b) in names.items():
        if (table := found.get(name)) is not None:
            flags = {"paired": False, "over_seeds": True}
        else:
            one, other = (runs[side.name] for side in (a, b))
            table, paired = _ratio(places, alphas, one, other, size)
            table = places.with_places(table).reindex(rows)
            flags = {"paired": paired, "over_seeds": False}
        tables.append(table.assign({k: xr.DataArray(v) for k, v in flags.items()}))
    if not tables:
        return _without_pairs(values["m_coherence"]).assign(compared_at=size)
    table = joined(tables, list(names), "pair").transpose("pair", "checkpoint", ...)
    if "layer" not in table.dims:
        p = table["p_value"].transpose("pair", "checkpoint", "subset")
        table["p_value_adjusted"] = p.copy(data=adjusted_within(p.values))
    return table.assign(compared_at=size)


def _ratio(
    places: Aligned, alphas: Sequence[xr.Dataset], a: int, b: int, size: int
) -> tuple[xr.Dataset, bool]:
    """The ratio of two runs at what both have, and whether their folds pair."""
    first, second, pair = alphas[a], alphas[b], (places.runs[a], places.runs[b])
    shared = {}
    for dimension in ("checkpoint", "layer", "subset"):
        if dimension in first.dims:
            partners = set(second[dimension].values)
            shared[dimension] = [n for n in first[dimension].values if n in partners]
    if not all(shared.values()):
        lacking = next(name for name, values in shared.items() if not values)
        raise InputError(
            f"two runs have no {lacking} in common",
            found=f"{pair[0].name} and {pair[1].name}",
            expected=f"at least one {lacking} that both have",
            fix="leave one of them out, or --rename OLD=NEW for layers of other names",
        )
    subsets = shared["subset"]
    sizes = xr.DataArray(np.full(len(subsets), size), {"subset": subsets}, "subset")
    same, _ = same_probes(*pair)
    paired = same and pair[0].folds == pair[1].folds and len(pair[0].folds) > 1
    return log_ratio(first.sel(shared), second.sel(shared), sizes, paired=paired), paired


def _without_pairs(value: xr.DataArray) -> xr.Dataset:
    """The table of a single configuration, which stands against nothing."""
    nothing = value.isel(run=slice(0, 0)).rename(run="pair")
    ends = ("", "_stderr", "_lower", "_upper")
    names = [*(f"log_ratio{end}" for end in ends), "p_value", "p_value_adjusted"]
    flags = {name: ("pair", np.zeros(0, dtype=bool)) for name in ("paired", "over_seeds")}
    return xr.Dataset(dict.fromkeys(names, nothing)).assign(flags)
