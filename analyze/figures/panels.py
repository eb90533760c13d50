"""Figures of several panels: their sizes, and panels below each other on one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures.style import NARROW, SMALLEST, figure_width, style

TALLEST = 40.0  # inches
LONGEST = 12  # characters of a panel's title
LABEL = 1.3 * SMALLEST / 72  # inches of a name at the end of a line
BESIDE = 4  # names that a panel may have beside those of the subsets
AXIS = 0.4  # inches of a panel's axis


def stacked(
    results: xr.DataTree,
    panels: Sequence[Callable[..., Axes]],
    x: str | None,
    inches: Sequence[float],
) -> Figure:
    """A figure of panels below each other on one axis ``x``, each with its height.

    Where there are many subsets panels are higher, so that all names have room beside them.
    """
    least = AXIS + LABEL * (results.sizes["subset"] + BESIDE)
    inches = [max(height, least) for height in inches]
    with style():
        figure = Figure(figsize=(figure_width(), sum(inches)))
        grid = figure.subplots(
            len(panels), 1, sharex=True, height_ratios=list(inches), squeeze=False
        )[:, 0]
        for panel, ax in zip(panels, grid, strict=True):
            panel(results, ax, x=x)
        for ax in grid[:-1]:
            ax.set_xlabel("")
        figure.align_ylabels()
    return figure


def grid(
    count: int,
    columns: int,
    height: float,
    more: float = 0.0,
    *,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels in columns, of ``height`` inches a row and ``more`` in all."""
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(figure_width(), min(rows * height + more, TALLEST)))
    axes = list(figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def columns_of(most: int) -> int:
    """Panels side by side: as many as in two columns of print, or half of them where it is one."""
    return most if figure_width() >= NARROW else max(1, most // 2)


def table_height(
    layers: int, row: float = 0.17, densest: float = 0.09, least: float = 1.6
) -> float:
    """Inches of a table: many rows are lower, but not lower than a line of small print."""
    row = row if layers <= 30 else max(densest, row * (30 / layers) ** 0.5)
    return max(least, row * layers)


def probe_count(results: xr.DataTree, subset: str) -> int:
    """The number of probes of a subset."""
    return int(results.to_dataset()["probe_count"].sel(subset=subset))
