"""Results in a few lines: m-coherence at first, at its peak and at last, and what may be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.results.findings import in_plain_text
from analyze.results.places import Places, places
from analyze.results.subsets import shown_subsets
from analyze.results.tree import OK
from analyze.results.values import Value, peak, value_at
from analyze.statistics import significance
from analyze.statistics.regrouping import provenance
from analyze.statistics.sizes import OWN, ShownSize, at_one_size, shown_size
from analyze.statistics.warnings import UNEQUAL, describe, warnings_of_the_run
from analyze.text import shown_name

MOST = 6  # courses with a line each
HEAD = ("first", "peak", "last")


@dataclass(frozen=True)
class Course:
    """M-coherence of the network over training, of one subset or of one run."""

    name: str
    probes: int  # that were measured
    values: np.ndarray  # [checkpoint], NaN where there is none
    points: tuple[Value, ...]  # first, peak and last of those with a value; empty without any
    chance: str = ""  # where no checkpoint agrees beyond chance, in words


@dataclass(frozen=True)
class Summary:
    """What was measured, in words and numbers."""

    title: str
    size: ShownSize  # at which the courses are
    courses: Sequence[Course]
    sentences: Sequence[str]
    warnings: Sequence[str]

    @property
    def shown(self) -> list[Course]:
        """The courses that are shown; of many the first ones and the last."""
        if len(self.courses) <= MOST:
            return list(self.courses)
        return [*self.courses[: MOST - 1], self.courses[-1]]

    @property
    def below(self) -> list[str]:
        """The sentences below the courses: which are left out, and what may be said."""
        left_out = [one.name for one in self.courses[MOST - 1 : -1]]
        few = len(self.courses) <= MOST
        return [*([] if few else [f"{len(left_out)} more: {listed(left_out, 3)}"]), *self.sentences]

    @property
    def warned(self) -> str:
        """How many warnings there are; empty without any."""
        count = len(self.warnings)
        return f"{count} warning{'s'[: count != 1]}" if count else ""


def summary(results: xr.DataTree) -> Summary:
    """What results say in a few lines: a course for each subset, and the sentences of the report.

    Subsets stand at the size at which the report shows them, and by its rule of significance.

    Cost: that of ``statistics.highest``, the jackknife of some checkpoints.
    """
    root, own, network = results.to_dataset(), results["network"].to_dataset(), at_one_size(results)
    origin = provenance(results)
    run, model = origin.get("run") or {}, origin.get("model") or {}
    name = run.get("name") or model.get("spec") or model.get("class") or "a network"
    measured = int((root["status"].values.astype(str) == OK).sum())
    total, probes = root.sizes["checkpoint"], root["probe_count"]
    title = (
        f"{shown_name(str(name))}: {measured} of {total} checkpoints measured, "
        f"{int(probes.sel(subset=ALL)):,} probes"
    )
    courses = [
        course(
            label, int(probes.sel(subset=subset)), network.sel(subset=subset), places(root),
            no_agreement(own, subset),
        )
        for subset, label in shown_subsets(results).items()
    ]  # fmt: skip
    said, warned = in_plain_text(results), warning_sentences(results)
    return Summary(title, shown_size(results), courses, said, warned)


def course(name: str, probes: int, series: xr.Dataset, along: Places, chance: str = "") -> Course:
    """The course of ``m_coherence`` in a table over ``checkpoint`` alone."""
    values = series["m_coherence"].values.astype(float)
    known, top = np.flatnonzero(np.isfinite(values)), peak(series)
    at = [] if top is None else [int(known[0]), top, int(known[-1])]
    points = tuple(v for k in at if (v := value_at(series, k, along)) is not None)
    return Course(name, probes, values, points, chance)


def no_agreement(network: xr.Dataset, subset: str) -> str:
    """What is to be said of a subset of which no checkpoint agrees beyond chance; else nothing."""
    tested, agree, cancel = (
        bool(rule(network).sel(subset=subset).any())
        for rule in (significance.tested, significance.agree, significance.cancel)
    )
    if not tested or agree:
        return ""
    return "no agreement; cancels beyond chance" if cancel else "no agreement beyond chance"


def warning_sentences(results: xr.DataTree) -> list[str]:
    """The warnings of the run, of what was not proven, and of the values at the size shown."""
    unproven = (provenance(results).get("proof") or {}).get("unproven") or []
    texts = warnings_of_the_run(results)
    if unproven:
        texts.append(
            "not proven against plain autograd, as the gradient was zero wherever it was "
            f"compared: {', '.join(map(str, unproven))}"
        )
    # At one size it does not matter that m differs.
    texts += describe(results, () if shown_size(results).choice == OWN else {UNEQUAL})
    return [shown_name(text) for text in texts]


def lines(found: Summary) -> list[str]:
    """The courses as lines of a table, what may be said, and how many warnings there are."""
    table = [[found.size.quantity, "probes", *HEAD, ""]]
    for one in found.shown:
        cells = [f"{p} at {p.where}" for p in one.points] or ["-"] * len(HEAD)
        table.append([one.name, f"{one.probes:,}", *cells, one.chance])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    return [*rows, *found.below, *filter(None, [found.warned])]
