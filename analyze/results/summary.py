"""Results in a few lines: m-coherence at first, at its peak and at last, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.results.tree import OK
from analyze.statistics.regrouping import provenance, same_as_all
from analyze.statistics.warnings import describe, warnings_of_the_run
from analyze.text import shown_name, with_error

MOST = 6  # courses with a line each
HEAD = ("first", "peak", "last")


@dataclass(frozen=True)
class Point:
    """M-coherence with its standard error, NaN where unknown, at a checkpoint."""

    value: float
    error: float
    where: str  # ``step 32``
    place: int  # index of the checkpoint

    def __str__(self) -> str:
        return with_error(self.value, self.error if np.isfinite(self.error) else None)


@dataclass(frozen=True)
class Course:
    """M-coherence of the network over training, of one subset or of one run."""

    name: str
    probes: int  # m, the largest value there may be
    values: np.ndarray  # [checkpoint], NaN where there is none
    points: tuple[Point, ...]  # first, peak and last of those with a value; empty without any


@dataclass(frozen=True)
class Summary:
    """What was measured, in words and numbers."""

    title: str
    courses: Sequence[Course]
    remarks: Sequence[str]
    warnings: Sequence[str]

    @property
    def shown(self) -> list[Course]:
        """The courses that are shown; of many the first ones and the last."""
        if len(self.courses) <= MOST:
            return list(self.courses)
        return [*self.courses[: MOST - 1], self.courses[-1]]

    @property
    def below(self) -> list[str]:
        """The sentences below the courses: which are left out, and the remarks."""
        left_out = [one.name for one in self.courses[MOST - 1 : -1]]
        few = len(self.courses) <= MOST
        return [*([] if few else [f"{len(left_out)} more: {listed(left_out, 3)}"]), *self.remarks]

    @property
    def warned(self) -> str:
        """How many warnings there are; empty without any."""
        count = len(self.warnings)
        return f"{count} warning{'s'[: count != 1]}" if count else ""


def summary(results: xr.DataTree) -> Summary:
    """What results say in a few lines: a course for each subset, ``all`` as the last.

    ``all`` is left out where it is the one training subset again. The layer that is named has the
    largest m-coherence of all that were measured, for ``all``.
    """
    root, network = results.to_dataset(), results["network"].to_dataset()
    origin = provenance(results)
    run, model = origin.get("run") or {}, origin.get("model") or {}
    name = run.get("name") or model.get("spec") or model.get("class") or "a network"
    measured = int((root["status"].values.astype(str) == OK).sum())
    total, probes = root.sizes["checkpoint"], int(root["probe_count"].sel(subset=ALL))
    title = f"{shown_name(str(name))}: {measured} of {total} checkpoints measured, {probes} probes"
    courses = [
        course(subset, int(root["probe_count"].sel(subset=subset)), network.sel(subset=subset))
        for subset in _shown_subsets(results)
    ]
    sentences = [*warnings_of_the_run(results), *describe(results)]
    return Summary(title, courses, _highest(results), [shown_name(s) for s in sentences])


def course(name: str, probes: int, series: xr.Dataset) -> Course:
    """The course of ``m_coherence`` in a table over ``checkpoint`` alone."""
    values = series["m_coherence"].values.astype(float)
    errors = series["m_coherence_stderr"].values.astype(float)
    known = np.flatnonzero(np.isfinite(values))
    places = (int(known[0]), int(np.nanargmax(values)), int(known[-1])) if len(known) else ()
    points = tuple(Point(float(values[k]), float(errors[k]), _where(series, k), k) for k in places)
    return Course(shown_name(name), probes, values, points)


def lines(found: Summary) -> list[str]:
    """The courses as lines of a table, the remarks, and how many warnings there are."""
    table = [["m-coherence", *HEAD]]
    for one in found.shown:
        cells = [f"{p} at {p.where}" for p in one.points] or ["-"] * len(HEAD)
        table.append([f"{one.name} (m={one.probes:,})", *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    return [*rows, *found.below, *filter(None, [found.warned])]


def _shown_subsets(results: xr.DataTree) -> list[str]:
    names = results["network"].to_dataset()["subset"].values
    subsets = [str(name) for name in names if name != ALL]
    return subsets if same_as_all(results) is not None else [*subsets, ALL]


def _highest(results: xr.DataTree) -> list[str]:
    layers = results["layers"].to_dataset().sel(subset=ALL).transpose("checkpoint", "layer", ...)
    values = layers["m_coherence"].values
    if not np.isfinite(values).any():
        return []
    k, layer = np.unravel_index(int(np.nanargmax(values)), values.shape)
    at = layers.isel(layer=int(layer))
    name, kind = (shown_name(str(at[n].item())) for n in ("layer", "layer_type"))
    error = float(at["m_coherence_stderr"].values[k])
    point = Point(float(values[k, layer]), error, _where(at, int(k)), int(k))
    return [f"Highest: {name} ({kind}), {point} at {point.where}, {ALL}"]


def _where(series: xr.Dataset, place: int) -> str:
    """``step 32``, or the epoch, or the name of the checkpoint."""
    for name in ("step", "epoch"):
        if name in series and np.isfinite(value := float(series[name].values[place])):
            return f"{name} {value:,.6g}"
    return shown_name(str(series["checkpoint"].values[place]))
