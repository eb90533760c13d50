"""A comparison as files."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from analyze.comparison.figures import ratio_figure, training_figure
from analyze.comparison.page import COMMAND, render_page
from analyze.errors import InputError
from analyze.pages.figures import save_figure
from analyze.pages.writing import PAGE, refuse_foreign, write_page
from analyze.store import write_results

FILE = "comparison.h5"


def write_comparison(comparison: xr.DataTree, directory: Path) -> Path:
    """Write ``figures/*.{svg,pdf,png}``, ``index.html`` and, last, ``comparison.h5``.

    Figures are ``training``, and ``ratio_N`` for the N-th pair in the file. Pages of the same
    comparison are the same, byte for byte.

    Returns:
        The path of the file.

    Raises:
        InputError: the directory cannot be written to, or has another ``index.html``.
    """
    directory = Path(directory)
    try:
        refuse_foreign(directory / PAGE, COMMAND)
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        figures = _figures(comparison)
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


def _figures(comparison: xr.DataTree) -> dict[str, Figure]:
    pairs = comparison["pairs/layers"].to_dataset()["pair"].values
    ratios = {f"ratio_{k + 1}": ratio_figure(comparison, str(p)) for k, p in enumerate(pairs)}
    return {"training": training_figure(comparison), **ratios}
