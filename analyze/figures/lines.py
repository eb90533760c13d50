"""Lines over training, one for each subset, with their names at the right end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.bands import alone
from analyze.figures.colours import LINE, SURFACE, of_words
from analyze.figures.looks import subset_looks
from analyze.figures.names import figure_text, legend_label
from analyze.figures.style import NARROW, SMALLEST, width_of
from analyze.figures.training import set_training_axis, training
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets

MANY = 60  # checkpoints up to which all have a marker
LEADING = 1.3  # line height of names, in units of the font size
LONGEST = 26  # characters of a name at the end of a line, in two columns of print
SHORTER = 18  # and in one


@dataclass(frozen=True)
class EndLabel:
    """A name to write at the right of the axes, at the height of a value."""

    text: str
    y: float
    colour: str


def end_label(text: str, values: np.ndarray, colour: str) -> list[EndLabel]:
    """A label at the height of the last known value; empty without any."""
    known = values[np.isfinite(values)]
    return [EndLabel(text, float(known[-1]), colour)] if len(known) else []


def draw_lines(
    results: xr.DataTree, ax: Axes, values: xr.DataArray, *, x: str | None = None
) -> list[EndLabel]:
    """Draw a line for each subset of ``values(checkpoint, subset)``, broken at missing values.

    ``x`` is the axis, as for ``training``. Returns labels for ``write_end_labels``, to be called
    once the axes have their limits.
    """
    names = [str(name) for name in values["subset"].values]
    looks = subset_looks(names)
    along = training(results, x)
    for name in names:
        y = values.sel(subset=name).values
        ax.plot(
            along.values, y, label=legend_label(name), **looks[name].line, markevery=marked(y),
            markeredgecolor=SURFACE, markeredgewidth=0.6, zorder=3 if name == ALL else 3.5,
        )  # fmt: skip
    set_training_axis(ax, along)
    return [
        label
        for name, text in shown_subsets(results).items()
        for label in end_label(text, values.sel(subset=name).values, looks[name].colour)
    ]


def write_end_labels(ax: Axes, labels: Sequence[EndLabel]) -> None:
    """Write names at the right of the axes, moved apart where they would overlap."""
    if not labels:
        return
    labels = sorted(labels, key=lambda label: label.y)
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], label.y))[1]) for label in labels]
    points = ax.get_window_extent().height * 72 / ax.figure.dpi
    size = float(np.clip(points / (LEADING * len(labels)), SMALLEST, 8.0))
    longest = LONGEST if width_of(ax) >= NARROW else SHORTER
    for label, y, place in zip(
        labels, heights, spread(heights, LEADING * size / points), strict=True
    ):
        ax.plot(
            [1.004, 1.018], [y, place], color=label.colour, linewidth=0.7, clip_on=False,
            transform=ax.transAxes, label="_leader",
        )  # fmt: skip
        ax.text(
            1.024, place, figure_text(label.text, longest), color=of_words(label.colour),
            fontsize=size, va="center_baseline", transform=ax.transAxes,
        )  # fmt: skip


def draw_guide(ax: Axes, y: float, width: float = 0.8) -> None:
    """Draw a dashed line at a value with a meaning."""
    ax.axhline(y, color=LINE, linewidth=width, linestyle=(0, (4, 3)), zorder=1, label="_guide")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Places near ascending heights that are at least ``gap`` apart, from 0 to 1 if they fit.

    Neighbours that are too close become a block around their mean, until no two blocks touch.
    """
    blocks: list[list[float]] = []
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _ends(blocks[-1], gap)[0] - _ends(blocks[-2], gap)[1] < gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    places = [_ends(block, gap)[0] + k * gap for block in blocks for k in range(len(block))]
    count = len(places)
    places = [min(place, 1 - gap * (count - 1 - k)) for k, place in enumerate(places)]
    return [max(place, k * gap) for k, place in enumerate(places)]


def _ends(block: list[float], gap: float) -> tuple[float, float]:
    """Bottom and top of a block around its mean."""
    middle, half = float(np.mean(block)), gap * (len(block) - 1) / 2
    return middle - half, middle + half


def marked(values: np.ndarray) -> list[int]:
    """Indices of the points with a marker: all of a few, only those without neighbours of many."""
    with_marker = np.isfinite(values) if len(values) <= MANY else alone(values)
    return np.flatnonzero(with_marker).tolist()
