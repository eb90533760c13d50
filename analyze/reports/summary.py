"""The numbers of the report: peaks and last values by subset and by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.figures.looks import subset_looks
from analyze.figures.names import plain
from analyze.probes.subsets import ALL
from analyze.results.places import Places, places
from analyze.results.subsets import shown_subsets
from analyze.results.summary import no_agreement
from analyze.results.tree import OK
from analyze.results.values import Value, Values
from analyze.statistics.sizes import ALPHA, at_one_size, shown_size
from analyze.statistics.warnings import FLAGS, KINDS, Kind, flagged


@dataclass(frozen=True)
class SubsetSummary:
    """A subset on the page; loss and accuracy are those of the last checkpoint.

    Values are at the size shown; where that is not the subset's own they stand at its own as well.
    """

    label: str
    all: bool  # of all training probes
    colour: str
    probes: int
    chance: str  # where no checkpoint agrees beyond chance, in words; empty else
    peak: Value | None
    last: Value | None
    own_peak: Value | None  # None where the size shown is the subset's own
    own_last: Value | None
    loss: float
    accuracy: float
    loss_per_token: float  # NaN where a probe has one loss only


@dataclass(frozen=True)
class LayerSummary:
    """A row of the table of layers, with peak and last value for each subset."""

    name: str
    type: str
    parameters: int
    values: list[tuple[Value | None, Value | None]]


@dataclass(frozen=True)
class Skipped:
    """A checkpoint without values, and the reason."""

    checkpoint: str
    where: str
    reason: str


def subset_summaries(results: xr.DataTree) -> dict[str, SubsetSummary]:
    """A summary of each subset that the page shows, by name."""
    labels = shown_subsets(results)
    return {name: subset_summary(results, name, label) for name, label in labels.items()}


def subset_summary(results: xr.DataTree, name: str, label: str) -> SubsetSummary:
    """The summary of one subset."""
    own, along, last = (
        results["network"].to_dataset(),
        places(results.to_dataset()),
        last_measured(results),
    )
    network, small = at_one_size(results), shown_size(results).choice == ALPHA
    colour = subset_looks(network["subset"].values)[name].colour
    peak, end = _peak_and_last(network.sel(subset=name), along, last, small)
    same = network["m_coherence"].sel(subset=name).equals(own["m_coherence"].sel(subset=name))
    own_values = (None, None) if same else _peak_and_last(own.sel(subset=name), along, last)
    shown = ("loss", "accuracy", "loss_per_token")
    losses = [_at(results, variable, name, last) for variable in shown]
    probes = int(results.to_dataset()["probe_count"].sel(subset=name))
    chance = no_agreement(own, name)
    return SubsetSummary(
        label, name == ALL, colour, probes, chance, peak, end, *own_values, *losses
    )


def layer_summaries(results: xr.DataTree, subsets: Sequence[str]) -> list[LayerSummary]:
    """A row for each layer in forward order, with values for each of ``subsets``."""
    layers, along, last = (
        at_one_size(results, "layers"),
        places(results.to_dataset()),
        last_measured(results),
    )
    small = shown_size(results).choice == ALPHA
    layers = layers.sel(subset=list(subsets))
    flags = layers[FLAGS] if FLAGS in layers else xr.zeros_like(layers["m_coherence"])
    value, error, flag = (
        table.transpose("layer", "subset", "checkpoint").values
        for table in (layers["m_coherence"], layers["m_coherence_stderr"], flags)
    )
    names, kinds, counts = (layers[n].values for n in ("layer", "layer_type", "parameter_count"))
    rows = []
    for k, name in enumerate(names):
        lines = [
            Values(value[k, s], error[k, s], flag[k, s], along, small) for s in range(len(subsets))
        ]
        values = [(line.peak(), None if last is None else line.at(last)) for line in lines]
        rows.append(LayerSummary(plain(str(name)), plain(str(kinds[k])), int(counts[k]), values))
    return rows


def skipped_checkpoints(results: xr.DataTree) -> list[Skipped]:
    """The checkpoints that could not be measured, with reasons."""
    root, where = results.to_dataset(), places(results.to_dataset()).names
    names, reasons = root["checkpoint"].values, root["status"].values.astype(str)
    return [
        Skipped(plain(str(name)), "" if place == plain(str(name)) else place, plain(str(reason)))
        for name, place, reason in zip(names, where, reasons, strict=True)
        if reason != OK
    ]


def marks_shown(results: xr.DataTree) -> list[Kind]:
    """The kinds of warning whose letter stands at a value of the results."""
    groups = [results[name].to_dataset() for name in ("network", "layers")]
    return [
        kind for kind in KINDS
        if kind.mark and any(FLAGS in g and bool(flagged(g, kind.name).any()) for g in groups)
    ]  # fmt: skip


def last_place(results: xr.DataTree) -> str:
    """The place in words of the last measured checkpoint; empty without one."""
    last = last_measured(results)
    return "" if last is None else places(results.to_dataset()).names[last]


def last_measured(results: xr.DataTree) -> int | None:
    """The index of the last measured checkpoint."""
    measured = np.flatnonzero(results.to_dataset()["status"].values.astype(str) == OK)
    return int(measured[-1]) if len(measured) else None


def _peak_and_last(
    series: xr.Dataset, along: Places, last: int | None, small: bool = False
) -> tuple[Value | None, Value | None]:
    line = Values.of(series, along, small)
    return line.peak(), None if last is None else line.at(last)


def _at(results: xr.DataTree, variable: str, subset: str, last: int | None) -> float:
    root = results.to_dataset()
    if last is None or variable not in root:
        return float("nan")
    return float(root[variable].sel(subset=subset).values[last])
