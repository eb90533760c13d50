"""M-coherence of one layer over training: a panel of the small multiples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures.bands import MANY, alone, draw_interval, interval_of, shown
from analyze.figures.coherence_over_training import set_coherence_axis
from analyze.figures.colours import INK
from analyze.figures.entry import FigureEntry
from analyze.figures.lines import draw_guide
from analyze.figures.looks import subset_looks
from analyze.figures.multiples import multiples
from analyze.figures.names import figure_text, legend_label
from analyze.figures.style import style
from analyze.figures.training import set_training_axis, training
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.statistics.sizes import shown_size

LONGEST = 24  # characters of the layer's name
ROOM = 90  # layers up to which the panels have intervals


def draw(
    results: xr.DataTree, ax: Axes, layer: str, *, x: str | None = None, intervals: bool = True,
    values: xr.Dataset | None = None, subsets: Mapping[str, str] | None = None,
) -> Axes:  # fmt: skip
    """Draw m-coherence of one layer over training, a line with its 95 % interval for each subset.

    The scale is logarithmic and the same for all layers of the results, with a guide at 1. There
    are no markers and no names at the lines: the panel is one of many. With more than six subsets
    there are no intervals. ``x`` is the axis, as for ``training``; ``values`` are what
    ``bands.shown`` gives for the layers, and ``subsets`` what ``shown_subsets`` gives, for who
    draws many panels.
    """
    values = shown(results, "layers") if values is None else values
    row, size = [str(n) for n in values["layer"].values].index(layer), shown_size(results)
    set_coherence_axis(ax, values["m_coherence"].values, size)
    along, subsets = training(results, x), shown_subsets(results) if subsets is None else subsets
    order = [str(name) for name in values["subset"].values]
    looks, of_layer = subset_looks(order), values.isel(layer=row).transpose("subset", ...)
    heights, (lower, upper) = of_layer["m_coherence"].values, interval_of(of_layer)
    for name in subsets:
        look, k = looks[name], order.index(name)
        y = heights[k]
        ax.plot(
            along.values, y, label=legend_label(subsets[name]), **look.line, linewidth=0.9,
            zorder=3 if name == ALL else 3.5, markersize=1.8,
            markevery=np.flatnonzero(alone(y)).tolist(),
        )  # fmt: skip
        if intervals and len(subsets) <= MANY:
            draw_interval(ax, along, lower[k], upper[k], look.colour)
    draw_guide(ax, size.orthogonal, 0.6)
    set_training_axis(ax, along, sparse=True)
    ax.set_title(figure_text(layer, LONGEST), color=INK, loc="left")
    return ax


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel for each layer, with intervals where there is room."""
    layers = [str(name) for name in results["layers"].to_dataset()["layer"].values]
    values, subsets = shown(results, "layers"), shown_subsets(results)

    def panel(ax: Axes, name: str) -> Axes:
        known = len(layers) <= ROOM
        return draw(results, ax, name, x=x, intervals=known, values=values, subsets=subsets)

    with style():
        return multiples(layers, panel, len(subsets))


FIGURE = FigureEntry(
    "layer_panels", "M-coherence over training, a panel for each layer",
    "All panels share their axes.", figure, section="layers", sized=True,
)  # fmt: skip
