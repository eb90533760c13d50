"""Small multiples: many panels with the same axes, and tick labels on the outer ones only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analyze.figures.names import figure_text, unmarked
from analyze.figures.style import SMALLEST, figure_width

LEFT, RIGHT, BOTTOM = 0.55, 0.1, 0.5  # inches around the panels
GAP = 0.1  # inches between columns
TITLE = 0.2  # inches above each panel
NAME, LEADING = 1.05, 0.16  # inches of a name in the legend, and of its line
NARROW = 0.55  # width of a letter, in units of the font size
TICK = 3.2  # width of a tick's label with room, in units of the font size


def multiples(
    names: Sequence[str], draw: Callable[[Axes, str], Axes], lines: int, title: str = ""
) -> Figure:
    """A panel for each name, with one legend of ``lines`` names and one label for either axis.

    ``draw`` draws lines and axes with labels into a panel, with the same limits in all. Panels are
    placed by hand and share no axes: matplotlib's layout and shared limits take minutes for two
    hundred of them.
    """
    room = figure_width() - LEFT - RIGHT
    size = 1.4 if len(names) <= 24 else 0.95 if len(names) <= 90 else 0.75  # inches of a panel
    columns = max(1, min(len(names), int(room / size)))
    rows = math.ceil(len(names) / columns)
    height = min(1.3, 0.7 * size) if len(names) > 3 else 1.3
    across = max(1, int(room / NAME))
    top = 0.1 + LEADING * (math.ceil(lines / across) + bool(title))
    inches = BOTTOM + top + rows * (height + TITLE)
    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure = Figure(figsize=(figure_width(), inches))
    grid = figure.subplots(rows, columns, squeeze=False)
    width = (room - GAP * (columns - 1)) / columns
    figure.subplots_adjust(
        left=LEFT / figure_width(), right=1 - RIGHT / figure_width(), bottom=BOTTOM / inches,
        top=1 - (top + TITLE) / inches, wspace=GAP / width, hspace=TITLE / height,
    )  # fmt: skip
    for k, (ax, name) in enumerate(zip(grid.flat, names, strict=False)):
        draw(ax, name)
        shown = figure_text(name, int(72 * width / (NARROW * SMALLEST)))
        ax.set_title(shown, loc="left", fontsize=SMALLEST, pad=2)
        ax.tick_params(labelsize=SMALLEST, length=2)
        _thin(ax, max(2, int(72 * width / (TICK * SMALLEST))))
        ax.tick_params(labelleft=k % columns == 0, labelbottom=k + columns >= len(names))
    _label(figure, grid, len(names), inches, across)
    if title:
        left = LEFT / figure_width()
        figure.suptitle(
            figure_text(title), x=left, y=1 - 0.04 / inches, ha="left", va="top", fontsize=9
        )
        figure.legends[0].set_bbox_to_anchor((left, 1 - LEADING / inches))
    return figure


def _thin(ax: Axes, most: int) -> None:
    """Keep at most some of the ticks below a panel, evenly chosen."""
    low, high = sorted(ax.get_xlim())
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    if len(ticks) > most:
        ax.xaxis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / most)]))


def _label(figure: Figure, grid: np.ndarray, count: int, inches: float, across: int) -> None:
    """Write one label for either axis and one legend; remove panels without a name."""
    first = grid.flat[0]
    figure.text(0.5, 0.06 / inches, first.get_xlabel(), ha="center", va="bottom", fontsize=8)
    left = 0.08 / figure_width()
    figure.text(left, 0.5, first.get_ylabel(), ha="left", va="center", rotation=90, fontsize=8)
    for ax in grid.flat[:count]:
        ax.set(xlabel="", ylabel="")
    for ax in grid.flat[count:]:
        ax.remove()
    handles, labels = first.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="upper left", ncols=across, frameon=False, fontsize=7,
        bbox_to_anchor=(LEFT / figure_width(), 1.0), borderaxespad=0.3, handlelength=1.6,
        columnspacing=1.2,
    )  # fmt: skip
    unmarked(legend)
