"""M-coherence of one layer over training: a panel of the small multiples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures.bands import MANY, alone, draw_interval, half_width
from analyze.figures.coherence_over_training import set_coherence_axis
from analyze.figures.colours import INK
from analyze.figures.entry import FigureEntry
from analyze.figures.lines import draw_guide, shown_subsets
from analyze.figures.looks import subset_looks
from analyze.figures.multiples import multiples
from analyze.figures.names import figure_text, legend_label
from analyze.figures.style import style
from analyze.figures.training import set_training_axis, training
from analyze.probes.subsets import ALL

LONGEST = 24  # characters of the layer's name
ROOM = 90  # layers up to which the panels have intervals


def draw(
    results: xr.DataTree, ax: Axes, layer: str, *, x: str | None = None, intervals: bool = True,
    widths: Mapping[str, np.ndarray] | None = None,
) -> Axes:  # fmt: skip
    """Draw m-coherence of one layer over training, a line with its 95 % interval for each subset.

    The scale is logarithmic and the same for all layers of the results, with a guide at 1. There
    are no markers and no names at the lines: the panel is one of many. With more than six subsets
    there are no intervals. ``x`` is the axis, as for ``training``; ``widths`` are what
    ``half_width`` gives for each subset, for who draws many panels.
    """
    values = results["layers"].to_dataset()["m_coherence"]
    row = [str(name) for name in values["layer"].values].index(layer)
    set_coherence_axis(ax, values.values)
    along, shown = training(results, x), shown_subsets(results)
    looks = subset_looks(values["subset"].values)
    for name in shown:
        y = values.isel(layer=row).sel(subset=name).values
        ax.plot(
            along.values, y, label=legend_label(shown[name]), **looks[name].line, linewidth=0.9,
            zorder=3 if name == ALL else 3.5, markersize=1.8,
            markevery=np.flatnonzero(alone(y)).tolist(),
        )  # fmt: skip
        if intervals and len(shown) <= MANY:
            table = half_width(results, name, "layers") if widths is None else widths[name]
            width = table[:, row]
            draw_interval(ax, along, y - width, y + width, looks[name].colour)
    draw_guide(ax, 1.0, 0.6)
    set_training_axis(ax, along, sparse=True)
    ax.set_title(figure_text(layer, LONGEST), color=INK, loc="left")
    return ax


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel for each layer, with intervals where there is room."""
    layers = [str(name) for name in results["layers"].to_dataset()["layer"].values]
    subsets = shown_subsets(results)
    widths = {name: half_width(results, name, "layers") for name in subsets}

    def panel(ax: Axes, name: str) -> Axes:
        return draw(results, ax, name, x=x, intervals=len(layers) <= ROOM, widths=widths)

    with style():
        return multiples(layers, panel, len(subsets))


FIGURE = FigureEntry(
    "layer_panels", "M-coherence over training, a panel for each layer",
    "All panels share their axes.", figure, section="layers",
)  # fmt: skip
