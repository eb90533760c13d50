"""Lines over training, one for each subset, with their names at the right end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.bands import alone
from analyze.figures.colours import LINE, SURFACE, subset_colours, subset_dashes, subset_markers
from analyze.figures.names import figure_text, legend_label, plain
from analyze.figures.training import set_training_axis, training
from analyze.probes.subsets import ALL

MANY = 60  # checkpoints beyond which only those without neighbours have a marker
LEADING = 1.3  # line height of names, in their size
LONGEST = 26  # characters of a name at the end of a line


@dataclass(frozen=True)
class EndLabel:
    """A name to write at the right of the axes, at the height of a value."""

    text: str
    y: float
    colour: str


def draw_lines(
    results: xr.DataTree, ax: Axes, values: xr.DataArray, *, x: str | None = None
) -> list[EndLabel]:
    """A line for each subset of ``values(checkpoint, subset)``, broken where values are missing.

    ``x`` is that of ``training``. Returns the names of the lines, for ``write_end_labels`` once the
    axes have their limits.
    """
    names = [str(name) for name in values["subset"].values]
    colours, markers, dashes = (f(names) for f in (subset_colours, subset_markers, subset_dashes))
    along = training(results, x)
    for name in names:
        y = values.sel(subset=name).values
        ax.plot(
            along.values, y, label=legend_label(name), color=colours[name], marker=markers[name],
            linestyle=dashes[name], markevery=marked(y), markeredgecolor=SURFACE,
            markeredgewidth=0.6, zorder=3 if name == ALL else 3.5,
        )  # fmt: skip
    set_training_axis(ax, along)
    labels = shown_subsets(results)
    ends = [(name, _last(values.sel(subset=name).values)) for name in labels]
    return [EndLabel(labels[n], y, colours[n]) for n, y in ends if np.isfinite(y)]


def shown_subsets(results: xr.DataTree) -> dict[str, str]:
    """Each subset's label; ``all`` is left out where it is one subset alone: ``clean = all``."""
    network = results["network"].to_dataset()["m_coherence"]
    counts = results.to_dataset()["probe_count"]
    labels = {str(name): plain(str(name)) for name in network["subset"].values}
    for name in list(labels):
        same = np.array_equal(network.sel(subset=name), network.sel(subset=ALL), equal_nan=True)
        if name != ALL and same and int(counts.sel(subset=name)) == int(counts.sel(subset=ALL)):
            labels[name] += " = all"
            del labels[ALL]
            break
    return labels


def write_end_labels(ax: Axes, labels: Sequence[EndLabel]) -> None:
    """Names at the right of the axes, moved apart where they would overlap."""
    if not labels:
        return
    labels = sorted(labels, key=lambda label: label.y)
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], label.y))[1]) for label in labels]
    points = ax.get_window_extent().height * 72 / ax.figure.dpi
    size = float(np.clip(points / (LEADING * len(labels)), 5.0, 8.0))
    for label, y, place in zip(
        labels, heights, spread(heights, LEADING * size / points), strict=True
    ):
        ax.plot(
            [1.004, 1.018], [y, place], color=label.colour, linewidth=0.7, clip_on=False,
            transform=ax.transAxes, label="_leader",
        )  # fmt: skip
        ax.text(
            1.024, place, figure_text(label.text, LONGEST), color=label.colour, fontsize=size,
            va="center_baseline", transform=ax.transAxes,
        )  # fmt: skip


def draw_guide(ax: Axes, y: float, width: float = 0.8) -> None:
    """A dashed line at a value that means something."""
    ax.axhline(y, color=LINE, linewidth=width, linestyle=(0, (4, 3)), zorder=1, label="_guide")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Places near ascending heights that are at least ``gap`` apart, from 0 to 1 if they fit.

    Neighbours that are too close become a block around their mean, until no two blocks touch.
    """
    blocks: list[list[float]] = []
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _bottom(blocks[-1], gap) - _top(blocks[-2], gap) < gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    places = [_bottom(block, gap) + k * gap for block in blocks for k in range(len(block))]
    count = len(places)
    places = [min(place, 1 - gap * (count - 1 - k)) for k, place in enumerate(places)]
    return [max(place, k * gap) for k, place in enumerate(places)]


def _bottom(block: list[float], gap: float) -> float:
    return float(np.mean(block)) - gap * (len(block) - 1) / 2


def _top(block: list[float], gap: float) -> float:
    return float(np.mean(block)) + gap * (len(block) - 1) / 2


def marked(values: np.ndarray) -> list[int]:
    """Which points have a marker: all of few, those without neighbours of many."""
    which = np.isfinite(values) if len(values) <= MANY else alone(values)
    return [int(k) for k in np.flatnonzero(which)]


def _last(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else float("nan")
