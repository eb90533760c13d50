"""What the page of a comparison says of the network in words, and when it may say it.

Every sentence is a function of the comparison and a subset, and returns None where the results do
not bear it out. Differences are those of the pairs that count: of configurations over their seeds,
of single runs over folds, at a false discovery rate over all pairs and checkpoints of the subset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from analyze.comparison.rows import compared_at, side_name, where
from analyze.errors import listed
from analyze.pages.text import rounded
from analyze.results.provenance import along
from analyze.results.sides import pair_names, sides_of
from analyze.statistics.significance import RATE

NO_AGREEMENT = "No run shows agreement beyond chance at any checkpoint."
Sentence = Callable[[xr.DataTree, str], str | None]


def lead(comparison: xr.DataTree, subset: str) -> list[str]:
    """The sentences that hold, in their order."""
    said = (sentence(comparison, subset) for sentence in SENTENCES)
    return [text for text in said if text is not None]


def peaks(comparison: xr.DataTree, subset: str) -> dict[str, tuple[float, float]]:
    """The highest value of each side that has one, and its place, by the side's label."""
    place, events = along(comparison), comparison["events"].to_dataset().sel(subset=subset)
    found = {}
    for side in sides_of(comparison):
        prefix, kind = ("group_", "group") if side.is_group else ("", "run")
        at = events.sel({kind: side.name})
        if np.isfinite(value := float(at[f"{prefix}peak"])):
            found[side_name(side)] = value, float(at[f"{prefix}peak_{place}"])
    return found


def nothing(comparison: xr.DataTree, subset: str) -> str | None:
    """No run has a value for the subset."""
    return None if peaks(comparison, subset) else f"No run has a value of m-coherence for {subset}."


def range_of_peaks(comparison: xr.DataTree, subset: str) -> str | None:
    """Where the highest measured values lie; it orders no two of them."""
    found = peaks(comparison, subset)
    if not found or by_chance(comparison, subset) == NO_AGREEMENT:
        return None
    place = along(comparison)
    words = [
        f"{rounded(value)} ({name}, {where(place, at)})"
        for name, (value, at) in sorted(found.items(), key=lambda item: item[1][0])
    ]
    ends = words[0] if len(words) == 1 else f"from {words[0]} to {words[-1]}"
    size = f"m-coherence of {compared_at(comparison):,} examples"
    return f"The highest measured {size} of the whole network is {ends}."


def by_chance(comparison: xr.DataTree, subset: str) -> str | None:
    """Which sides show no agreement beyond chance at any checkpoint."""
    network = comparison["network"].to_dataset().sel(subset=subset)
    if "p_value_of_chance" not in network:
        return None
    p = network["p_value_of_chance"]
    none, judged = [], []
    for side in sides_of(comparison):
        values = p.sel(run=list(side.runs)).values
        if np.isfinite(values).any():
            judged.append(side)
            if not (values <= RATE).any():
                none.append(side_name(side))
    if not none:
        return None
    if len(none) == len(judged):
        return NO_AGREEMENT
    return f"No agreement beyond chance at any checkpoint: {listed(none)}."


def two_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """Of two sides, at how many checkpoints one agrees significantly more or less."""
    names = pair_names(sides_of(comparison))
    if len(names) != 1:
        return None
    (first, second) = next(iter(names.values()))
    ratios = comparison["pairs/network"].to_dataset().isel(pair=0).sel(subset=subset)
    significant = ratios["p_value_adjusted"].values <= RATE
    if not significant.any():
        return None
    higher = significant & (ratios["log_ratio"].values > 0)
    lower = significant & (ratios["log_ratio"].values < 0)
    count = int(np.isfinite(ratios["p_value_adjusted"].values).sum())
    places, place = ratios[along(comparison)].values, along(comparison)

    def part(word: str, at: np.ndarray) -> str:
        return f"{word} at {int(at.sum())}, first at {where(place, float(places[at][0]))}"

    parts = [part(w, at) for w, at in (("more", higher), ("less", lower)) if at.any()]
    return (
        f"Of {count} places where both have a value, gradients agree significantly "
        f"{'; '.join(parts)} in {side_name(second)} than in {side_name(first)}."
    )


def some_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """Of three or more sides, how many pairs differ at some checkpoint."""
    pairs = comparison["pairs/network"].to_dataset()
    count = pairs.sizes["pair"]
    p = pairs["p_value_adjusted"].sel(subset=subset)
    differing = int((p <= RATE).any("checkpoint").sum())
    if count < 2 or not differing:
        return None
    return f"{differing} of {count} pairs differ significantly at some checkpoint."


def none_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """No tested pair differs at any checkpoint."""
    p = comparison["pairs/network"].to_dataset()["p_value_adjusted"].sel(subset=subset)
    if not np.isfinite(p.values).any() or (p <= RATE).any():
        return None
    if p.sizes["pair"] == 1:
        return "The two do not differ significantly at any checkpoint."
    return "No two of them differ significantly at any checkpoint."


def untested(comparison: xr.DataTree, subset: str) -> str | None:
    """Nothing could be tested although there are values."""
    p = comparison["pairs/network"].to_dataset()["p_value_adjusted"].sel(subset=subset)
    if np.isfinite(p.values).any() or not peaks(comparison, subset):
        return None
    if not p.sizes["pair"]:
        return "All runs are seeds of one configuration: there is nothing that it differs from."
    return "Whether they differ could not be tested: no two have values with errors at one place."


SENTENCES: tuple[Sentence, ...] = (
    nothing, by_chance, two_differ, some_differ, none_differ, untested, range_of_peaks,
)  # fmt: skip
