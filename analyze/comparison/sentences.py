"""What the page of a comparison says of the network in words, and when it may say it.

Every sentence is a function of the comparison and a subset, and returns None where the results do
not bear it out. Differences are those of the pairs that count: of configurations over their seeds,
of single runs over folds, at a false discovery rate over all pairs and checkpoints of the subset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from analyze.comparison.rows import where
from analyze.errors import listed
from analyze.pages.text import rounded
from analyze.results.provenance import along
from analyze.results.sides import pair_names, sides_of
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import compared_at

NO_AGREEMENT = "No run shows agreement beyond chance at any checkpoint."
NONE_BEYOND_CHANCE = "At no checkpoint is there agreement beyond chance in"
EQUAL = 1e-9  # of a log ratio: what rounding makes of equal values
NAMED = 3  # pairs that differ whose names are told
Sentence = Callable[[xr.DataTree, str], str | None]


def lead(comparison: xr.DataTree, subset: str) -> list[str]:
    """The sentences that hold, in their order."""
    said = (sentence(comparison, subset) for sentence in SENTENCES)
    return [text for text in said if text is not None]


def peaks(comparison: xr.DataTree, subset: str) -> dict[str, tuple[float, float]]:
    """The highest value of each side that has one, and its place, by the side's name."""
    place, events = along(comparison), comparison["events"].to_dataset().sel(subset=subset)
    found = {}
    for side in sides_of(comparison):
        prefix, kind = ("group_", "group") if side.is_group else ("", "run")
        at = events.sel({kind: side.name})
        if np.isfinite(value := float(at[f"{prefix}peak"])):
            found[side.name] = value, float(at[f"{prefix}peak_{place}"])
    return found


def nothing(comparison: xr.DataTree, subset: str) -> str | None:
    """No run has a value for the subset."""
    return None if peaks(comparison, subset) else "No run has a value of m-coherence."


def range_of_peaks(comparison: xr.DataTree, subset: str) -> str | None:
    """Where the highest values lie of what agrees beyond chance; it orders no two of them.

    What does not agree may have a higher one by chance, so it is named as left out.
    """
    without = beyond_no_chance(comparison, subset)
    found = {k: v for k, v in peaks(comparison, subset).items() if k not in without}
    if not found:
        return None
    size = f"m-coherence of {compared_at(comparison):,} examples"
    but = f"Apart from {listed(without)}, t" if without else "T"
    if len(found) == 1:
        ((name, (value, at)),) = found.items()
        place = where(along(comparison), at)
        highest = f"{rounded(value)}, in {name} at {place}"
        return f"{but}he highest measured {size} of the whole network is {highest}."
    low, high = (rounded(end(value for value, _ in found.values())) for end in (min, max))
    if low == high:
        return f"{but}he peaks of the whole network, of {size}, are all at {low}."
    return f"{but}he peaks of the whole network, of {size}, lie between {low} and {high}."


def beyond_no_chance(comparison: xr.DataTree, subset: str) -> list[str]:
    """The sides of which no run agrees beyond chance at any checkpoint where that was judged."""
    p = _of_chance(comparison, subset)
    return [name for name, values in p.items() if not (values <= RATE).any()]


def _of_chance(comparison: xr.DataTree, subset: str) -> dict[str, np.ndarray]:
    """The p-values of chance of each side that has some, over its runs and checkpoints."""
    network = comparison["network"].to_dataset().sel(subset=subset)
    if "p_value_of_chance" not in network:
        return {}
    p = network["p_value_of_chance"]
    found = {side.name: p.sel(run=list(side.runs)).values for side in sides_of(comparison)}
    return {name: values for name, values in found.items() if np.isfinite(values).any()}


def by_chance(comparison: xr.DataTree, subset: str) -> str | None:
    """Which sides show no agreement beyond chance at any checkpoint."""
    none = beyond_no_chance(comparison, subset)
    if not none:
        return None
    if len(none) == len(_of_chance(comparison, subset)):
        return NO_AGREEMENT
    return f"{NONE_BEYOND_CHANCE} {listed(none)}."


def two_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """Of two sides, at how many checkpoints one agrees significantly more or less."""
    names = pair_names(sides_of(comparison))
    if len(names) != 1:
        return None
    (first, second) = next(iter(names.values()))
    ratios = comparison["pairs/network"].to_dataset().isel(pair=0).sel(subset=subset)
    significant = ratios["p_value_adjusted"].values <= RATE
    higher = significant & (ratios["log_ratio"].values > 0)
    lower = significant & (ratios["log_ratio"].values < 0)
    if not (higher | lower).any():
        return None
    count = int(np.isfinite(ratios["p_value_adjusted"].values).sum())
    places, place = ratios[along(comparison)].values, along(comparison)
    parts = [(word, at) for word, at in (("more", higher), ("less", lower)) if at.any()]
    than = f"in {second.name} than in {first.name}"
    if count == 1:
        at = where(place, float(places[higher | lower][0]))
        word = parts[0][0]
        only = f"At {at}, the only place where both have a value"
        return f"{only}, gradients agree significantly {word} {than}."
    told = [f"at {at.sum()}, first at {where(place, float(places[at][0]))}" for _, at in parts]
    told[0] = f"{than} {told[0]}"
    words = ", and ".join(f"{word} {text}" for (word, _), text in zip(parts, told, strict=True))
    return f"Of {count} places where both have a value, gradients agree significantly {words}."


def _place_of(comparison: xr.DataTree) -> str:
    """What a place of the comparison is: no level of the loss is a checkpoint."""
    return "loss level" if along(comparison) == "training_loss" else "checkpoint"


def some_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """Of three or more sides, how many pairs differ at some checkpoint."""
    pairs = comparison["pairs/network"].to_dataset()
    count = pairs.sizes["pair"]
    p = pairs["p_value_adjusted"].sel(subset=subset)
    found = (p <= RATE).any("checkpoint").values
    if count < 2 or not found.any():
        return None
    names = [str(name) for name in pairs["pair"].values[found]]
    named = f": {listed(names)}" if len(names) <= NAMED else ""
    place = _place_of(comparison)
    return f"{len(names)} of {count} pairs differ significantly at some {place}{named}."


def equal(comparison: xr.DataTree, subset: str) -> str | None:
    """Sides with the same values wherever both have one, as two files of one run."""
    names, found = pair_names(sides_of(comparison)), equal_pairs(comparison, subset)
    if not found:
        return None
    if len(names) == 1:
        ((first, second),) = names.values()
        return f"The values of {first.name} and {second.name} are equal wherever both have one."
    named = f": {listed(found)}" if len(found) <= NAMED else ""
    return f"{len(found)} of {len(names)} pairs have equal values wherever both have one{named}."


def equal_pairs(comparison: xr.DataTree, subset: str) -> list[str]:
    """The pairs whose ratio is 1, but for rounding, at every place that has one."""
    ratio = comparison["pairs/network"].to_dataset()["log_ratio"].sel(subset=subset)
    alike = (abs(ratio) <= EQUAL).where(ratio.notnull(), True).all("checkpoint")
    found = alike & ratio.notnull().any("checkpoint")
    return [str(name) for name in ratio["pair"].values[found.values]]


def none_differ(comparison: xr.DataTree, subset: str) -> str | None:
    """No tested pair differs at any checkpoint, or at any level of the loss."""
    p = comparison["pairs/network"].to_dataset()["p_value_adjusted"].sel(subset=subset)
    if not np.isfinite(p.values).any() or (p <= RATE).any():
        return None
    place = _place_of(comparison)
    if p.sizes["pair"] == 1:
        return f"The two do not differ significantly at any {place}."
    return f"No two of them differ significantly at any {place}."


def untested(comparison: xr.DataTree, subset: str) -> str | None:
    """Nothing could be tested although there are values."""
    p = comparison["pairs/network"].to_dataset()["p_value_adjusted"].sel(subset=subset)
    if np.isfinite(p.values).any() or not peaks(comparison, subset):
        return None
    if not p.sizes["pair"]:
        return "All runs are seeds of one configuration: there is nothing that it differs from."
    if len(equal_pairs(comparison, subset)) == p.sizes["pair"]:
        return None
    return "Whether they differ could not be tested: no two have values with errors at one place."


SENTENCES: tuple[Sentence, ...] = (
    nothing, by_chance, equal, two_differ, some_differ, none_differ, untested, range_of_peaks,
)  # fmt: skip
