"""Comparisons that say in short how the runs compare before they show their groups."""

from __future__ import annotations

from analyze.comparison.rows import difference_rows, headline_subset, remarks
from analyze.comparison.sentences import lead
from analyze.results.display import Results
from analyze.results.places import places
from analyze.results.summary import Summary, course
from analyze.statistics.sizes import at_one_size, shown_size
from analyze.text import shown_name


class Comparison(Results):
    """The tree of a comparison."""

    __slots__ = ()

    def summary(self) -> Summary:
        """A course for each run at one size, of ``all`` or the first subset; pairs that differ.

        The sentences are those of the page.
        """
        network, size = at_one_size(self), shown_size(self)
        subset, counts = headline_subset(self), self.to_dataset()["probe_count"]
        courses = [
            course(
                shown_name(str(run)), int(counts.sel(run=run, subset=subset)),
                series := network.sel(run=run, subset=subset), places(series),
            )
            for run in network["run"].values
        ]  # fmt: skip
        _, columns, rows = difference_rows(self)
        differing = [
            f"{pair}: {columns[2]} that differs {first}, ratio {largest}"
            for pair, of, first, largest, _ in rows
            if of == subset and first is not None
        ]
        title = f"{len(courses)} runs, subset {shown_name(subset)}"
        said = [shown_name(text) for text in [*lead(self, subset), *differing]]
        return Summary(title, size, courses, said, [shown_name(text) for text in remarks(self)])
