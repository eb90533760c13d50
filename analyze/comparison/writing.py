"""A comparison as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from analyze.comparison.page import COMMAND, render_page
from analyze.figures.table import comparison_figures
from analyze.pages.writing import write_page
from analyze.results.file import write_results

FILE = "comparison.h5"


def write_comparison(comparison: xr.DataTree, directory: Path, ratios: Iterable[str] = ()) -> Path:
    """Write ``figures/*.{svg,pdf,png}``, ``index.html`` and, last, ``comparison.h5``.

    Figures are those of ``comparison_figures``. Pages of the same comparison are the same, byte
    for byte.

    Args:
        comparison: What ``compare`` gives.
        directory: Made if it is missing; an older comparison in it is replaced.
        ratios: Pairs, ``B / A``, with a figure besides those that have one anyway.

    Returns:
        The path of the file.

    Raises:
        InputError: the directory cannot be written to, or has another ``index.html``, or there is
            no such pair.
    """
    page = write_page(
        Path(directory),
        COMMAND,
        lambda: comparison_figures(comparison, ratios),
        lambda figures: render_page(comparison, figures),
    )
    write_results(comparison, page.with_name(FILE))
    return page.with_name(FILE)
