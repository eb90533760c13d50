"""A comparison as files."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from analyze.comparison.figures import ratio_figure, training_figure
from analyze.errors import InputError
from analyze.pages.figures import save_figure
from analyze.store import write_results

FILE = "comparison.h5"


def write_comparison(comparison: xr.DataTree, directory: Path) -> Path:
    """Write ``comparison.h5``, last, and ``figures/*.{svg,pdf,png}``.

    Figures are ``training``, and ``ratio_N`` for the N-th pair in the file.

    Returns:
        The path of the file.

    Raises:
        InputError: the directory cannot be written to.
    """
    directory = Path(directory)
    try:
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for name, figure in _figures(comparison).items():
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


def _figures(comparison: xr.DataTree) -> dict[str, Figure]:
    pairs = comparison["pairs/layers"].to_dataset()["pair"].values
    ratios = {f"ratio_{k + 1}": ratio_figure(comparison, str(p)) for k, p in enumerate(pairs)}
    return {"training": training_figure(comparison), **ratios}
