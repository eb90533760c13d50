"""Comparisons that say in short how the runs compare before they show their groups."""

from __future__ import annotations

from analyze.comparison.rows import difference_rows, remarks
from analyze.probes.subsets import ALL
from analyze.results.display import Results
from analyze.results.summary import Summary, course
from analyze.statistics.sizes import at_one_size, compared_at
from analyze.text import shown_name


class Comparison(Results):
    """The tree of a comparison."""

    __slots__ = ()

    def summary(self) -> Summary:
        """A course for each run at one size, of ``all`` or the first subset; pairs that differ."""
        network, size = at_one_size(self), compared_at(self)
        subsets = [str(name) for name in network["subset"].values]
        subset = ALL if ALL in subsets else subsets[0]
        courses = [
            course(str(run), size, network.sel(run=run, subset=subset))
            for run in network["run"].values
        ]
        _, columns, rows = difference_rows(self)
        differing = [
            f"{shown_name(str(pair))}: {columns[2]} that differs {first:,.6g}, ratio {largest}"
            for pair, of, first, largest, _ in rows
            if of == subset and isinstance(first, float)
        ]
        title = f"{len(courses)} runs, subset {shown_name(subset)}"
        warnings = [shown_name(text) for text in remarks(self)]
        return Summary(
            title, courses, differing or ["No pair of runs differs significantly"], warnings
        )
