"""Runs of a comparison as lines over training: their places, colours, and panels by subset."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures.bands import alone, draw_interval
from analyze.figures.coherence_over_training import set_coherence_axis
from analyze.figures.colours import SURFACE
from analyze.figures.lines import draw_guide, marked
from analyze.figures.looks import run_look
from analyze.figures.names import legend_label, unmarked
from analyze.figures.panels import columns_of, grid
from analyze.figures.style import style
from analyze.figures.training import LABELS, Training, compact, set_training_axis
from analyze.results.presence import has_gaps, lacks_seeds, seeds_below_zero
from analyze.results.provenance import along
from analyze.results.sides import sides_of
from analyze.statistics.sizes import at_one_size, shown_size

LONGEST = 30  # characters of a run's name
MARGIN = 0.02  # share of the axis at either end
LEGEND = 4  # names in a line of the legend


def run_styles(comparison: xr.DataTree) -> dict[str, int]:
    """The number of the style of each run: that of its side, which all seeds of one share."""
    return {run: k for k, side in enumerate(sides_of(comparison)) for run in side.runs}


def training_of(comparison: xr.DataTree) -> Training:
    """The places of a comparison's checkpoints along training."""
    place = along(comparison)
    values = comparison["network"].to_dataset()[place].values.astype(float)
    skipped = np.zeros(len(values), dtype=bool)
    if place != "training_loss":
        names = [compact(value) for value in values]
        return Training(values, LABELS[place], names, names, skipped)
    names = [f"{value:,.2g}" for value in values]
    units = comparison.to_dataset()["loss"].attrs.get("units", "nats")
    return Training(values, f"{LABELS['loss']} ({units})", names, names, skipped, falling=True)


def set_run_axes(comparison: xr.DataTree, ax: Axes, group: str = "network") -> None:
    """Set scale, guide, ticks and labels, which are the same for all runs and subsets."""
    size = shown_size(comparison)
    set_coherence_axis(ax, at_one_size(comparison, group)["m_coherence"].values, size)
    draw_guide(ax, size.orthogonal)
    places = training_of(comparison)
    set_training_axis(ax, places, sparse=True)
    known = places.values[np.isfinite(places.values)]
    if len(known) > 1:
        scale = ax.xaxis.get_transform()
        low, high = scale.transform([known.min(), known.max()])
        room = MARGIN * (high - low)
        first, last = scale.inverted().transform([low - room, high + room])
        ax.set_xlim(*((last, first) if places.falling else (first, last)))


def draw_run(
    ax: Axes,
    places: Training,
    values: xr.Dataset,
    k: int,
    name: str,
    *,
    there: np.ndarray,
    markers: bool = True,
    band: bool = False,
) -> None:
    """Draw the line of the k-th run, or group, across the places that only others have.

    It has the places that are ``there``, ``[checkpoint]``, and is broken at those without a value.
    Without markers it is thin; the band is the 95 % interval, where the values have one.
    """
    x, y = places.values[there], values["m_coherence"].values[there]
    if not np.isfinite(y).any():
        return
    ax.plot(
        x, y, **run_look(k).line, label=legend_label(name, LONGEST),
        linewidth=1.4 if markers else 0.9, markersize=4 if markers else 2, zorder=3,
        markevery=marked(y) if markers else np.flatnonzero(alone(y)).tolist(),
        markeredgecolor=SURFACE, markeredgewidth=0.5,
    )  # fmt: skip
    if band and "m_coherence_lower" in values:
        lower, upper = (values[f"m_coherence_{end}"].values[there] for end in ("lower", "upper"))
        # Levels of the loss fall one after the other: a band over them does not cross itself.
        rising = Training(x, places.label, [], [], np.zeros(len(x), dtype=bool))
        draw_interval(ax, rising, lower, upper, run_look(k).colour)


def words_of_gaps(comparison: xr.DataTree) -> str:
    """What a caption says of broken lines, where there is one."""
    return " A gap: a checkpoint that has no value." if has_gaps(comparison) else ""


def words_of_seeds(comparison: xr.DataTree) -> str:
    """What a caption says of means over some of the seeds only, and of those that there are not."""
    words = ""
    if lacks_seeds(comparison):
        words += " Where a seed has no value, the mean is over the others."
    if seeds_below_zero(comparison):
        words += " Where a seed is at or below 0, there is no geometric mean."
    return words


def subset_panels(
    comparison: xr.DataTree, draw: Callable[[xr.DataTree, Axes, str], Axes]
) -> Figure:
    """A figure with a panel for each subset, in two columns on the same axes, and one legend."""
    subsets = [str(name) for name in comparison["network"].to_dataset()["subset"].values]
    columns, across = min(columns_of(2), len(subsets)), columns_of(LEGEND)
    legend = 0.18 * math.ceil(comparison.sizes["run"] / across) + 0.3  # inches
    with style():
        named: dict[str, Artist] = {}
        figure, axes = grid(len(subsets), columns, 2.2, legend, sharex=True, sharey=True)
        for k, (ax, subset) in enumerate(zip(axes, subsets, strict=True)):
            draw(comparison, ax, subset)
            lowest = k + columns >= len(subsets)
            ax.tick_params(labelbottom=lowest)
            ax.set_xlabel(ax.get_xlabel() if lowest else "")
            ax.set_ylabel(ax.get_ylabel() if k % columns == 0 else "")
            handles, labels = ax.get_legend_handles_labels()
            named |= {str(n): h for n, h in zip(labels, handles, strict=True)}
        names = figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=across,
            frameon=False, fontsize=7,
        )  # fmt: skip  # by position: matplotlib refuses empty lists by keyword
        unmarked(names)
    return figure
