"""Tables and remarks of a comparison, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import xarray as xr

from analyze.comparison.matching import DIFFERENT, IDS
from analyze.errors import listed
from analyze.results.provenance import along
from analyze.statistics.regrouping import provenance
from analyze.statistics.significance import RATE
from analyze.text import with_error

SETTINGS = "Settings that differ"
SIDE_BY_SIDE = 3  # runs with a column of settings each
LONGEST = 34  # characters of a path

Table = tuple[str, list[str], list[list[object]]]


def event_tables(comparison: xr.DataTree) -> list[Table]:
    """The tables of key events, without empty ones."""
    tables = [peak_rows(comparison), loss_rows(comparison), difference_rows(comparison)]
    return [table for table in tables if table[2]]


def peak_rows(comparison: xr.DataTree) -> Table:
    """The highest m-coherence of each run and subset."""
    place, events = along(comparison), comparison["events"].to_dataset()
    rows: list[list[object]] = []
    for names, event, size in _each_run(comparison, events):
        if np.isfinite(peak := float(event["peak"])):
            value = with_error(peak, float(event["peak_stderr"]))
            rows.append([*names, size, value, float(event[f"peak_{place}"])])
    title = "Highest measured m-coherence of the network"
    return title, ["run", "subset", "m", "peak", place], rows


def loss_rows(comparison: xr.DataTree) -> Table:
    """The network's m-coherence where each run first falls to a level of training loss."""
    events = comparison["events"].to_dataset()
    title = "M-coherence at equal training loss; compare values at equal m only"
    if "coherence_at_loss" not in events:
        return title, [], []
    rows: list[list[object]] = []
    for names, event, size in _each_run(comparison, events):
        values, errors = event["coherence_at_loss"].values, event["coherence_at_loss_stderr"].values
        if np.isfinite(values).any():
            cells = [
                with_error(float(v), float(e)) if np.isfinite(v) else None
                for v, e in zip(values, errors, strict=True)
            ]
            rows.append([*names, size, *cells])
    levels = [f"loss {level:.3g}" for level in events["loss_level"].values]
    return title, ["run", "subset", "m", *levels], rows


def _each_run(
    comparison: xr.DataTree, events: xr.Dataset
) -> Iterator[tuple[list[str], xr.Dataset, int]]:
    """For each run and subset their names, events, and the number of probes."""
    counts = comparison.to_dataset()["probe_count"]
    for run, subset in product(events["run"].values, events["subset"].values):
        at = {"run": run, "subset": subset}
        yield [run, subset], events.sel(at), int(counts.sel(at))


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
        first = float(ratios[place].values[significant][0]) if significant.any() else None
        largest = _largest(ratios, significant) if significant.any() else None
        share = f"{int((cells <= RATE).sum())} of {int(cells.notnull().sum())}"
        rows.append([pair, subset, int(ratios["compared_at"]), first, largest, share])
    title = f"Ratio of m-coherence; significant at a false discovery rate of {RATE:.0%}"
    columns = ["pair", "subset", "at m", f"first {place}", "largest ratio", "cells of the layers"]
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
    """Remarks on layers without a partner, on the probes, and on errors that do not pair."""
    lacking = lacking_layers(comparison)
    lines = [f"{run} has no layer {listed(layers)}" for run, layers in lacking.items()]
    judged = [str(by) for by in comparison.to_dataset()["probes"].values]
    runs = [str(name) for name in comparison.to_dataset()["run"].values]
    if DIFFERENT in judged:
        others = listed([n for n, by in zip(runs, judged, strict=True) if by == DIFFERENT])
        lines.append(f"Warning: other probes than {runs[0]}: {others}")
    if IDS in judged:
        lines.append("The inputs were judged the same by the ids of the probes only")
    pairs = comparison["pairs/network"].to_dataset()
    if apart := [str(n) for n in pairs["pair"].values[~pairs["paired"].values.astype(bool)]]:
        lines.append(f"Folds do not pair, so variances are added: {listed(apart)}")
    return lines


def lacking_layers(comparison: xr.DataTree) -> dict[str, list[str]]:
    """The layers of other runs that a run lacks, by run, for runs that lack any."""
    present = comparison["layers"].to_dataset()["present"]
    lacking = {
        str(run): [str(name) for name in present["layer"].values[present.sel(run=run).isnull()]]
        for run in present["run"].values
    }
    return {run: names for run, names in lacking.items() if names}


def _largest(ratios: xr.Dataset, significant: np.ndarray) -> str:
    """The significant ratio farthest from 1, with its 95 % interval."""
    size = np.where(significant, np.abs(ratios["log_ratio"].values), -np.inf)
    at = ratios.isel(checkpoint=int(size.argmax()))
    value, low, high = (float(np.exp(at[f"log_ratio{end}"])) for end in ("", "_lower", "_upper"))
    return f"{value:.3g} ({low:.3g} to {high:.3g}) at {at['checkpoint'].item()}"
