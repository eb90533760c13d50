"""A comparison as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from analyze.comparison.layout import comparison_figures
from analyze.errors import InputError
from analyze.report.render import save_figure
from analyze.store import write_results

FILE = "comparison.h5"


def write_comparison(comparison: xr.DataTree, directory: Path, ratios: Iterable[str] = ()) -> Path:
    """Write ``comparison.h5``, last, and ``figures/*.{svg,pdf,png}``.

    Figures are those of ``comparison_figures``.

    Args:
        comparison: What ``compare`` gives.
        directory: Made if it is missing.
        ratios: Pairs, ``B / A``, with a figure besides those that have one anyway.

    Returns:
        The path of the file.

    Raises:
        InputError: the directory cannot be written to, or there is no such pair.
    """
    directory = Path(directory)
    try:
        figures = comparison_figures(comparison, ratios)
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save_figure(figure, directory / "figures", name)
    except OSError as error:
        raise InputError(
            "the comparison cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    write_results(comparison, directory / FILE)
    return directory / FILE
