"""M-coherence of the whole network over training, a line for each subset."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analyze.figures.colours import (
    LINE,
    MISSING,
    MUTED,
    SURFACE,
    subset_colours,
    subset_markers,
)
from analyze.figures.intervals import half_width
from analyze.figures.lines import EndLabel, alone, draw_lines, shown_subsets, write_end_labels
from analyze.figures.training import training
from analyze.probes.subsets import ALL
from analyze.statistics.warnings import FLAGS, flagged

ROOM = 2.0  # factor between the outermost values and the ends of the axis


def draw(results: xr.DataTree, ax: Axes) -> Axes:
    """Draw m-coherence over training, with 95 % intervals as bands and guides at 1 and at m.

    The band is a Student t interval of the jackknife over folds, with the folds less one as
    degrees of freedom (fewer where single examples stand out); there is none with a single fold.
    Grey is what comes by chance in 95 % of cases where the mean gradient of all training probes is
    zero; an open marker is a value inside that band of its own subset. Checkpoints that were
    skipped leave a gap in the line and a cross on the axis.
    """
    values = results["network"].to_dataset()["m_coherence"]
    low, high = _limits(values.values)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    labels = draw_lines(results, ax, values)
    x, colours = training(results).values, subset_colours(values["subset"].values)
    _draw_null_band(results, ax, x)
    for name in shown_subsets(results):
        y, width = values.sel(subset=name).values, half_width(results, name)
        _draw_band(ax, x, y, width, colours[name])
    _mark_chance(results, ax, x)
    labels += _draw_guides(results, ax)
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1,) if high / low > 2e3 else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("m-coherence (examples)")
    write_end_labels(ax, labels)
    return ax


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of the axis: all values and 1, with room around them."""
    positive = values[np.isfinite(values) & (values > 0)]
    return positive.min(initial=1.0) / ROOM, positive.max(initial=5.0) * ROOM


def _draw_band(ax: Axes, x: np.ndarray, y: np.ndarray, width: np.ndarray, colour: str) -> None:
    """The interval as a band, and as a bar at a point without neighbours."""
    bottom = ax.get_ylim()[0] / ROOM  # a log axis has no place for what is below 0
    lower, upper = np.maximum(y - width, bottom), y + width
    ax.fill_between(x, lower, upper, color=colour, alpha=0.13, linewidth=0, zorder=2)
    single = alone(upper) & np.isfinite(x)
    if single.any():
        ax.vlines(x[single], lower[single], upper[single], color=colour, linewidth=1.2, zorder=2.5)


def _draw_null_band(results: xr.DataTree, ax: Axes, x: np.ndarray) -> None:
    """What comes by chance in all training probes; results of older versions do not say."""
    network = results["network"].to_dataset()
    if "null_upper" not in network:
        return
    band = network.sel(subset=ALL)
    upper = band["null_upper"].values
    lower = np.maximum(band["null_lower"].values, ax.get_ylim()[0] / ROOM)
    ax.fill_between(x, lower, upper, color=MISSING, linewidth=0, zorder=0.5, label="_chance")
    single = alone(upper) & np.isfinite(x)
    if single.any():
        ax.vlines(x[single], lower[single], upper[single], color=MISSING, linewidth=6, zorder=0.5)


def _mark_chance(results: xr.DataTree, ax: Axes, x: np.ndarray) -> None:
    """An open marker at each value inside its own subset's band of chance."""
    network = results["network"].to_dataset()
    if FLAGS not in network:
        return
    names = network["subset"].values
    colours, markers = subset_colours(names), subset_markers(names)
    for name in shown_subsets(results):
        inside = flagged(network, "inside_null_band").sel(subset=name).values
        ax.plot(
            x[inside], network["m_coherence"].sel(subset=name).values[inside], markers[name],
            markerfacecolor=SURFACE, markeredgecolor=colours[name], markeredgewidth=1.2,
            zorder=4, label="_inside",
        )  # fmt: skip


def _draw_guides(results: xr.DataTree, ax: Axes) -> list[EndLabel]:
    """Lines at 1 and, where in view, at the number of probes of the subsets."""
    counts = results.to_dataset()["probe_count"].values
    low, high = ax.get_ylim()
    guides = {1.0: "1: orthogonal"}
    guides |= {float(m): f"m = {m:,}: identical" for m in counts if max(low, 1) < m < high}
    for y in guides:
        ax.axhline(y, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_guide")
    return [EndLabel(text, y, MUTED) for y, text in guides.items()]
