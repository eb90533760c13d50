"""A card for each side of a comparison: its peak and its last value, at the size of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyze.comparison.sentences import beyond_no_chance, where
from analyze.pages.text import rounded
from analyze.results.provenance import along
from analyze.results.sides import Side, sides_of
from analyze.statistics.sizes import at_one_size, compared_at


@dataclass(frozen=True)
class Shown:
    """A value, its 95 % interval in words, and its place."""

    value: str
    interval: str  # empty where it is unknown
    where: str
    seeds: str  # of how many seeds it is the mean, where some have no value; empty else


@dataclass(frozen=True)
class SideCard:
    """What stands on the card of a configuration, or of a run of none."""

    label: str
    colour: str
    peak: Shown | None
    last: Shown | None
    probes: str  # measured in each run
    own_peak: str  # of a run that was measured at another size
    chance: str  # where no checkpoint agrees beyond chance, in words; empty else


def cards(
    comparison: xr.DataTree, looks: Sequence[Mapping[str, Any]], subset: str
) -> list[SideCard]:
    """The cards, for a subset; ``looks`` are the sides in the data of the page."""
    place = along(comparison)
    counts = comparison.to_dataset()["probe_count"].sel(subset=subset)
    without = beyond_no_chance(comparison, subset)
    result = []
    for side, look in zip(sides_of(comparison), looks, strict=True):
        table = _course(comparison, side).sel(subset=subset)
        value = table["m_coherence"].values
        known = np.flatnonzero(np.isfinite(value))
        measured = sorted({int(n) for n in counts.sel(run=list(side.runs)).values})
        card = SideCard(
            look["label"], look["colour"],
            _shown(table, int(np.nanargmax(value)), place, len(side.runs)) if len(known) else None,
            _shown(table, int(known[-1]), place, len(side.runs)) if len(known) else None,
            ", ".join(f"{n:,}" for n in measured),
            "" if side.is_group or measured == [compared_at(comparison)] or not len(known)
            else _own_peak(comparison, side.name, subset),
            "no agreement beyond chance" if side.name in without else "",
        )  # fmt: skip
        result.append(card)
    return result


def _course(comparison: xr.DataTree, side: Side) -> xr.Dataset:
    """The network of a side over training."""
    if side.is_group:
        return at_one_size(comparison, "groups/network").sel(group=side.name)
    return at_one_size(comparison).sel(run=side.name)


def _shown(table: xr.Dataset, at: int, place: str, runs: int) -> Shown:
    one = table.isel(checkpoint=at)
    ends = [float(one[f"m_coherence_{end}"]) if f"m_coherence_{end}" in one else np.nan
            for end in ("lower", "upper")]  # fmt: skip
    interval = f"{rounded(ends[0])} to {rounded(ends[1])}" if np.isfinite(ends).all() else ""
    number = int(one["runs"]) if "runs" in one else runs
    seeds = f"seeds with a value: {number} of {runs}" if number < runs else ""
    value, at_place = rounded(float(one["m_coherence"])), where(place, float(one[place]))
    return Shown(value, interval, at_place, seeds)


def _own_peak(comparison: xr.DataTree, run: str, subset: str) -> str:
    """The peak of a run at its own m."""
    own = comparison["network"].to_dataset()["m_coherence"].sel(run=run, subset=subset)
    return rounded(float(own.max()))
