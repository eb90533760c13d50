"""Tables and remarks of a comparison, for the terminal and the page."""

from __future__ import annotations

from itertools import product

import numpy as np
import xarray as xr

from analyze.comparison.groups import FEWEST
from analyze.comparison.matching import DIFFERENT, IDS
from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.results.provenance import along
from analyze.results.sides import Side, sides_of
from analyze.statistics.regrouping import provenance
from analyze.statistics.seeds import geometric_mean
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import compared_at
from analyze.text import place_text, to_two_digits, with_interval

SETTINGS = "Settings that differ"
NO_VALUE = "No run has a value of m-coherence at any checkpoint, so charts and tables are empty"
SIDE_BY_SIDE = 3  # runs with a column of settings each
LONGEST = 34  # characters of a path

Table = tuple[str, list[str], list[list[object]]]


def event_tables(comparison: xr.DataTree) -> list[Table]:
    """The tables of key events, without empty ones."""
    tables = [peak_rows(comparison), loss_rows(comparison), difference_rows(comparison)]
    return [table for table in tables if table[2]]


def headline_subset(comparison: xr.DataTree) -> str:
    """``all`` where runs have it, else the first subset."""
    names = [str(name) for name in comparison.to_dataset()["subset"].values]
    return ALL if ALL in names else names[0]


def where(place: str, at: float) -> str:
    """``step 32``, ``training loss 0.51``."""
    return f"{place.replace('_', ' ')} {place_text(at, place)}"


def peak_rows(comparison: xr.DataTree) -> Table:
    """The highest m-coherence of each side and subset."""
    place, events = along(comparison), comparison["events"].to_dataset()
    rows: list[list[object]] = []
    for side, subset in product(sides_of(comparison), events["subset"].values):
        prefix = "group_" if side.is_group else ""
        at = events.sel({"group" if side.is_group else "run": side.name, "subset": subset})
        if not np.isfinite(value := float(at[f"{prefix}peak"])):
            continue
        text = with_interval(value, *_ends(at, f"{prefix}peak"))
        rows.append(
            [side_name(side), subset, text, place_text(float(at[f"{prefix}peak_{place}"]), place)]
        )
    title = f"Highest measured m-coherence of the network, of {compared_at(comparison):,} examples"
    return title, [_kind(comparison), "subset", "peak", place], rows


def _ends(at: xr.Dataset, name: str) -> tuple[float, float]:
    """The ends of the 95 % interval of an event; NaN where they are not known."""
    ends = (float(at[f"{name}_{e}"]) if f"{name}_{e}" in at else np.nan for e in ("lower", "upper"))
    return next(ends), next(ends)


def loss_rows(comparison: xr.DataTree) -> Table:
    """The network's m-coherence where each side first falls to a level of training loss."""
    events = comparison["events"].to_dataset()
    size = f"of {compared_at(comparison):,} examples"
    title = f"M-coherence {size} where the training loss first falls to a level"
    if "coherence_at_loss" not in events:
        return title, [], []
    rows: list[list[object]] = []
    for side, subset in product(sides_of(comparison), events["subset"].values):
        at = events.sel(run=list(side.runs), subset=subset)
        values = at["coherence_at_loss"].transpose("run", "loss_level").values
        errors = at["coherence_at_loss_stderr"].transpose("run", "loss_level").values
        if not np.isfinite(values).any():
            continue
        if side.is_group:
            mean, lower, upper, _ = geometric_mean(values, compared_at(comparison))
            texts = list(map(with_interval, mean.tolist(), lower.tolist(), upper.tolist()))
            known = np.isfinite(mean)
        else:
            texts = list(map(to_two_digits, values[0].tolist(), errors[0].tolist()))
            known = np.isfinite(values[0])
        cells = [text if there else None for text, there in zip(texts, known, strict=True)]
        rows.append([side_name(side), subset, *cells])
    levels = [f"loss {level:.3g}" for level in events["loss_level"].values]
    return title, [_kind(comparison), "subset", *levels], rows


def _kind(comparison: xr.DataTree) -> str:
    """What stands in the first column: runs, or configurations and runs of none."""
    return "configuration" if any(s.is_group for s in sides_of(comparison)) else "run"


def side_name(side: Side) -> str:
    """``real (4 seeds)``, or the name of a run."""
    return f"{side.name} ({len(side.runs)} seeds)" if side.is_group else side.name


def difference_rows(comparison: xr.DataTree) -> Table:
    """The first difference of each pair, and the largest ratio of the network."""
    place = along(comparison)
    pairs = comparison["pairs/network"].to_dataset()
    layers = comparison["pairs/layers"].to_dataset()["p_value_adjusted"]
    rows: list[list[object]] = []
    for pair, subset in product(pairs["pair"].values, pairs["subset"].values):
        ratios = pairs.sel(pair=pair, subset=subset)
        cells = layers.sel(pair=pair, subset=subset)
        significant = ratios["p_value_adjusted"].values <= RATE
        if not np.isfinite(ratios["p_value_adjusted"].values).any():
            continue
        places = [place_text(p, place) for p in ratios[place].values[significant]]
        first = places[0] if places else None
        largest = _largest(ratios, significant, place) if significant.any() else None
        share = f"{int((cells <= RATE).sum())} of {int(cells.notnull().sum())}"
        rows.append([pair, subset, first, largest, share])
    title = (
        f"Ratio of m-coherence of {compared_at(comparison):,} examples, significant at a false "
        f"discovery rate of {RATE:.0%} over all pairs and checkpoints"
    )
    columns = ["pair", "subset", f"first {place}", "largest ratio", "cells of the layers"]
    return title, columns, rows


def setting_rows(comparison: xr.DataTree) -> Table:
    """Settings that are not the same in all runs, with a column for each of up to three runs.

    Of more runs a row has a setting, a value, and the runs with it. Long values are cut where they
    stay different; the page has them whole.
    """
    settings: dict[str, list[str]] = provenance(comparison)["differing_settings"]
    runs = [str(name) for name in comparison.to_dataset()["run"].values]
    short = {setting: _briefly(values) for setting, values in settings.items()}
    if len(runs) <= SIDE_BY_SIDE:
        return SETTINGS, ["setting", *runs], [[name, *values] for name, values in short.items()]
    rows: list[list[object]] = []
    for setting, values in short.items():
        for value in dict.fromkeys(values):
            having = [run for run, other in zip(runs, values, strict=True) if other == value]
            rows.append([setting, value, listed(having)])
    return SETTINGS, ["setting", "value", "runs"], rows


def _briefly(values: list[str]) -> list[str]:
    """The values, cut unless different ones would become equal."""
    short = [_brief(value) for value in values]
    return short if len(set(short)) == len(set(values)) else values


def _brief(value: str) -> str:
    """The first digits of a hash, the name at the end of a long path."""
    if len(value) == 64 and all(c in "0123456789abcdef" for c in value):
        return value[:12]
    if len(value) > LONGEST and "/" in value:
        return f"\N{HORIZONTAL ELLIPSIS}/{value.rpartition('/')[2]}"
    return value


def remarks(comparison: xr.DataTree) -> list[str]:
    """Remarks on what has no value or no partner, on the probes, and on errors that do not pair."""
    groups = [comparison[name].to_dataset() for name in ("network", "layers")]
    lines = [] if any(np.isfinite(g["m_coherence"]).any() for g in groups) else [NO_VALUE]
    lacking = lacking_layers(comparison)
    lines += [f"{run} has no layer {listed(layers)}" for run, layers in lacking.items()]
    judged = [str(by) for by in comparison.to_dataset()["probes"].values]
    runs = [str(name) for name in comparison.to_dataset()["run"].values]
    if DIFFERENT in judged:
        others = listed([n for n, by in zip(runs, judged, strict=True) if by == DIFFERENT])
        lines.append(f"Warning: other probes than {runs[0]}: {others}")
    if IDS in judged:
        lines.append("The inputs were judged the same by the ids of the probes only")
    pairs = comparison["pairs/network"].to_dataset()
    by_folds = ~pairs["over_seeds"].values.astype(bool)
    apart = pairs["pair"].values[by_folds & ~pairs["paired"].values.astype(bool)]
    if len(apart):
        lines.append(f"Folds do not pair, so variances are added: {listed(list(map(str, apart)))}")
    return [*lines, *_of_seeds(comparison)]


def _of_seeds(comparison: xr.DataTree) -> list[str]:
    """What few seeds cannot tell, where configurations stand against others."""
    sides = sides_of(comparison)
    groups = [side for side in sides if side.is_group]
    if not groups or len(sides) < 2:
        return []
    lines = []
    if few := [side.name for side in groups if len(side.runs) == FEWEST]:
        lines.append(
            f"Two seeds only: {listed(few)}. Their spread is hardly known, so that intervals are "
            "wide, and no significant difference does not mean that there is none"
        )
    if alone := [side.name for side in sides if not side.is_group]:
        lines.append(
            f"Without seeds of its own: {listed(alone)}. Against a configuration it is taken to "
            "spread as the runs of that do"
        )
    return lines


def lacking_layers(comparison: xr.DataTree) -> dict[str, list[str]]:
    """The layers of other runs that a run lacks, by run, for runs that lack any."""
    present = comparison["layers"].to_dataset()["present"]
    lacking = {
        str(run): [str(name) for name in present["layer"].values[present.sel(run=run).isnull()]]
        for run in present["run"].values
    }
    return {run: names for run, names in lacking.items() if names}


def _largest(ratios: xr.Dataset, significant: np.ndarray, place: str) -> str:
    """The significant ratio farthest from 1, with its 95 % interval."""
    size = np.where(significant, np.abs(ratios["log_ratio"].values), -np.inf)
    at = ratios.isel(checkpoint=int(size.argmax()))
    value, low, high = (float(np.exp(at[f"log_ratio{end}"])) for end in ("", "_lower", "_upper"))
    return f"{with_interval(value, low, high)} at {where(place, float(at[place]))}"
