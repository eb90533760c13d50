"""``report``: the page of a results file."""

from __future__ import annotations

from pathlib import Path

from analyze.reports.page import write_report
from analyze.results.file import open_results
from analyze.statistics.grouping import group_by


def report(
    results: str | Path,
    *,
    output: str | Path | None = None,
    by: str = "layer",
    x: str | None = None,
) -> Path:
    """Write a page with figures: ``OUTPUT/index.html`` and ``OUTPUT/figures``.

    Args:
        results: The results file.
        output: The directory; without it the file's name with ``_report``, in the current one.
        by: Rows for ``layer``, ``block`` or ``parameter``; nothing is measured again.
        x: What the figures show training along: ``step``, ``epoch`` or ``loss``; without it steps
            where they are known, else epochs, else the order of the checkpoints.

    Returns:
        The path of the page.

    Raises:
        InputError: no results file, a directory that cannot be written to or has another
            ``index.html``, no such grouping, or ``x`` is not known of any checkpoint.

    Example:
        ``analyze.report("half_noise.h5", output="half_noise_report")``
    """
    tree = group_by(open_results(results), by)
    directory = f"{Path(results).stem}_report" if output is None else output
    return write_report(tree, Path(directory), x)
