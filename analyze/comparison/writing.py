"""A comparison as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from analyze.comparison.layout import comparison_figures
from analyze.comparison.page import COMMAND, render_page
from analyze.errors import InputError
from analyze.files.whole import drop_parts_in
from analyze.pages.figures import save_figure
from analyze.pages.writing import PAGE, refuse_foreign, write_page
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
    directory = Path(directory)
    try:
        refuse_foreign(directory / PAGE, COMMAND)
        figures = comparison_figures(comparison, ratios)
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for place in (directory, directory / "figures"):
            drop_parts_in(place)
        for name, figure in figures.items():
            save_figure(figure, directory / "figures", name)
        write_page(directory / PAGE, render_page(comparison, figures))
    except OSError as error:
        raise InputError(
            "the comparison cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    write_results(comparison, directory / FILE)
    return directory / FILE
