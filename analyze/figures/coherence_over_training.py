"""M-coherence of the whole network over training, a line for each subset."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, SymmetricalLogLocator

from analyze.figures import lines
from analyze.figures.bands import (
    MANY,
    bar_step,
    draw_chance,
    draw_interval,
    fold_count,
    interval_of,
    shown,
)
from analyze.figures.colours import MUTED, SURFACE
from analyze.figures.entry import FigureEntry
from analyze.figures.looks import subset_looks
from analyze.figures.panels import stacked
from analyze.figures.training import Training, training
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.statistics.significance import within_chance
from analyze.statistics.sizes import ALPHA, OWN_SIZE, ShownSize, shown_size

ROOM = 2.0  # factor between the outermost values and the ends of the axis
DENSEST = 1.8  # decades in an inch of axis up to which there are ticks in between


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw m-coherence over training, with 95 % intervals as bands and guides at 1 and at m.

    All subsets are at one size, see ``statistics.sizes``. The band is the interval of the jackknife
    over folds, with the folds less one as degrees of freedom (fewer where single examples stand
    out); there is none with a single fold. The hatched band holds 95 % of the values that chance
    gives where the mean gradient of all training probes is zero; an open marker is a value that
    cannot be told from chance, see ``statistics.significance``. Skipped checkpoints leave a gap in
    the line and a cross on the axis. With more than six subsets only ``all`` has a band.

    ``x`` is the axis, as for ``training``. Along the loss, lines join the checkpoints in their
    order and turn back where the loss rises; intervals are bars.
    """
    network, size = shown(results), shown_size(results)
    values = network["m_coherence"]
    set_coherence_axis(ax, values.values, size)
    labels = lines.draw_lines(results, ax, values, x=x)
    along, looks = training(results, x), subset_looks(values["subset"].values)
    labels += _draw_null_band(network, ax, along)
    subsets = shown_subsets(results)
    for name in subsets:
        lower, upper = interval_of(network.sel(subset=name))
        if len(subsets) <= MANY or name == ALL:
            draw_interval(ax, along, lower, upper, looks[name].colour, outlined=name == ALL)
    _mark_chance(results, values, ax, along.values)
    labels += _draw_guides(results, ax, size)
    lines.write_end_labels(ax, labels)
    return ax


def set_coherence_axis(ax: Axes, values: np.ndarray, size: ShownSize = OWN_SIZE) -> None:
    """A logarithmic y axis for m-coherence of a size, with room for all values and 1.

    That of unbiased alpha, which may be negative, is linear around 0.
    """
    known = values[np.isfinite(values)]
    if size.choice == ALPHA:
        largest = float(np.abs(known).max(initial=1e-3))
        linear = 10.0 ** np.floor(np.log10(largest) - 2)
        ax.set_yscale("symlog", linthresh=linear, linscale=0.5)
        ax.set_ylim(min(-linear, ROOM * float(known.min(initial=0.0))), ROOM * largest)
        ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        positive = known[known > 0]
        ax.set_yscale("log")
        ax.set_ylim(positive.min(initial=1.0) / ROOM, positive.max(initial=5.0) * ROOM)
        set_coherence_ticks(ax)
    ax.set_ylabel(size.quantity)


def set_coherence_ticks(ax: Axes) -> None:
    """Ticks of a logarithmic axis as plain numbers, fewer where decades have little room."""
    low, high = ax.get_ylim()
    inches = ax.get_window_extent().height / ax.figure.dpi
    wide = high / low > 2e3 or np.log10(high / low) / inches > DENSEST
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1,) if wide else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_null_band(network: xr.Dataset, ax: Axes, along: Training) -> list[lines.EndLabel]:
    """The band of chance of all training probes; results of older versions have none."""
    if "null_upper" not in network:
        return []
    band = network.sel(subset=ALL)
    draw_chance(ax, along, band["null_lower"].values, band["null_upper"].values)
    return lines.end_label("chance (95 %)", band["null_upper"].values, MUTED)


def _mark_chance(results: xr.DataTree, values: xr.DataArray, ax: Axes, x: np.ndarray) -> None:
    """An open marker at each value that cannot be told from chance."""
    chance = within_chance(results["network"].to_dataset())
    looks = subset_looks(values["subset"].values)
    for name in shown_subsets(results):
        inside = chance.sel(subset=name).values
        few = len(inside) <= lines.MANY
        if not inside.any():
            continue
        ax.plot(
            x[inside], values.sel(subset=name).values[inside],
            marker=looks[name].marker.name, linestyle="none", markerfacecolor=SURFACE,
            markeredgecolor=looks[name].colour, markeredgewidth=1.2 if few else 0.5,
            markersize=4 if few else 1.6, zorder=4, label="_inside",
        )  # fmt: skip


def _draw_guides(results: xr.DataTree, ax: Axes, size: ShownSize) -> list[lines.EndLabel]:
    """Lines where gradients are orthogonal and, in view, where all are equal."""
    counts = results.to_dataset()["probe_count"].values
    low, high = ax.get_ylim()
    guides = {size.orthogonal: f"{size.orthogonal:g}: orthogonal"}
    for value in dict.fromkeys(size.identical(int(m)) for m in counts):
        if max(low, size.orthogonal) < value < high:
            number = f"{value:,.0f}"
            guides[value] = f"{'' if size.choice == ALPHA else 'm = '}{number}: identical"
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


def caption(results: xr.DataTree) -> str:
    """The caption, with which checkpoints have a bar where not all have one."""
    words = (
        "The mean loss of all training probes falls from left to right; a line turns back where it "
        "rises again."
    )
    step = bar_step(results.sizes["checkpoint"])
    if step == 1 or fold_count(results, ALL) < 2:
        return words
    return f"{words} Bars are 95 % intervals, of one in {step} checkpoints."


FIGURE = FigureEntry(
    "loss", "M-coherence against the training loss", caption,
    figure, knows_loss, each, section="training", sized=True,
)  # fmt: skip
