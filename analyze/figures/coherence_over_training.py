"""M-coherence of the whole network over training, a line for each subset."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analyze.figures import lines
from analyze.figures.bands import MANY, draw_chance, draw_interval, half_width
from analyze.figures.colours import MUTED, SURFACE
from analyze.figures.entry import FigureEntry
from analyze.figures.looks import subset_looks
from analyze.figures.panels import stacked
from analyze.figures.training import Training, training
from analyze.probes.subsets import ALL
from analyze.statistics.warnings import FLAGS, flagged

ROOM = 2.0  # factor between the outermost values and the ends of the axis
DENSEST = 1.8  # decades in an inch of axis up to which there are ticks in between


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw m-coherence over training, with 95 % intervals as bands and guides at 1 and at m.

    The band is a Student t interval of the jackknife over folds, with the folds less one as
    degrees of freedom (fewer where single examples stand out); there is none with a single fold.
    The hatched band holds 95 % of the values that chance gives where the mean gradient of all
    training probes is zero; an open marker is a value inside that band of its own subset. Skipped
    checkpoints leave a gap in the line and a cross on the axis. With more than six subsets only
    ``all`` has a band.

    ``x`` is the axis, as for ``training``. Along the loss, lines join the checkpoints in their
    order and turn back where the loss rises; intervals are bars.
    """
    values = results["network"].to_dataset()["m_coherence"]
    set_coherence_axis(ax, values.values)
    labels = lines.draw_lines(results, ax, values, x=x)
    along, looks = training(results, x), subset_looks(values["subset"].values)
    labels += _draw_null_band(results, ax, along)
    shown = lines.shown_subsets(results)
    for name in shown:
        y, width = values.sel(subset=name).values, half_width(results, name)
        if len(shown) <= MANY or name == ALL:
            draw_interval(ax, along, y - width, y + width, looks[name].colour, outlined=name == ALL)
    _mark_chance(results, ax, along.values)
    labels += _draw_guides(results, ax)
    lines.write_end_labels(ax, labels)
    return ax


def set_coherence_axis(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis for m-coherence, with room for all values and 1."""
    positive = values[np.isfinite(values) & (values > 0)]
    ax.set_yscale("log")
    ax.set_ylim(positive.min(initial=1.0) / ROOM, positive.max(initial=5.0) * ROOM)
    set_coherence_ticks(ax)
    ax.set_ylabel("m-coherence (examples)")


def set_coherence_ticks(ax: Axes) -> None:
    """Ticks of a logarithmic axis as plain numbers, fewer where decades have little room."""
    low, high = ax.get_ylim()
    inches = ax.get_window_extent().height / ax.figure.dpi
    wide = high / low > 2e3 or np.log10(high / low) / inches > DENSEST
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1,) if wide else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_null_band(results: xr.DataTree, ax: Axes, along: Training) -> list[lines.EndLabel]:
    """The band of chance of all training probes; results of older versions have none."""
    network = results["network"].to_dataset()
    if "null_upper" not in network:
        return []
    band = network.sel(subset=ALL)
    draw_chance(ax, along, band["null_lower"].values, band["null_upper"].values)
    return lines.end_label("chance (95 %)", band["null_upper"].values, MUTED)


def _mark_chance(results: xr.DataTree, ax: Axes, x: np.ndarray) -> None:
    """An open marker at each value inside its own subset's band of chance."""
    network = results["network"].to_dataset()
    if FLAGS not in network:
        return
    looks = subset_looks(network["subset"].values)
    for name in lines.shown_subsets(results):
        inside = flagged(network, "within_chance").sel(subset=name).values
        ax.plot(
            x[inside], network["m_coherence"].sel(subset=name).values[inside],
            marker=looks[name].marker.name, linestyle="none", markerfacecolor=SURFACE,
            markeredgecolor=looks[name].colour, markeredgewidth=1.2,
            markersize=4 if len(inside) <= lines.MANY else 2, zorder=4, label="_inside",
        )  # fmt: skip


def _draw_guides(results: xr.DataTree, ax: Axes) -> list[lines.EndLabel]:
    """Lines at 1 and, where in view, at the number of probes of the subsets."""
    counts = results.to_dataset()["probe_count"].values
    low, high = ax.get_ylim()
    guides = {1.0: "1: orthogonal"}
    guides |= {float(m): f"m = {m:,}: identical" for m in counts if max(low, 1) < m < high}
    for y in guides:
        lines.draw_guide(ax, y)
    return [lines.EndLabel(text, y, MUTED) for y, text in guides.items()]


def figure(results: xr.DataTree, x: str | None) -> Figure:
    """The figure: one panel."""
    return stacked(results, [draw], x, [3.15])


def knows_loss(results: xr.DataTree) -> bool:
    """Whether any checkpoint has a loss of the training probes."""
    return bool(np.isfinite(results.to_dataset()["loss"].sel(subset=ALL)).any())


def each(results: xr.DataTree, x: str | None) -> dict[str, str]:
    """A figure along the loss, unless that is the axis of all figures."""
    return {} if x == "loss" else {"loss": "loss"}


FIGURE = FigureEntry(
    "loss", "M-coherence against the training loss",
    "The mean loss of all training probes falls from left to right; a line turns back where it "
    "rises again.",
    figure, knows_loss, each, section="training",
)  # fmt: skip
