"""Between subsets: cosines of their mean gradients, and below how far they help each other."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import cosine_over_training, cross_help_over_training
from analyze.figures.cross_help_over_training import has_cross_help
from analyze.figures.entry import FigureEntry
from analyze.figures.panels import stacked


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel of cosines, and one of cross help where it is known."""
    panels: list[Callable[..., Axes]] = [cosine_over_training.draw]
    if has_cross_help(results):
        panels.append(cross_help_over_training.draw)
    return stacked(results, panels, x, [2.1] * len(panels))


FIGURE = FigureEntry(
    "between_subsets", "Cosines between subsets, and cross help",
    "Cosines between the subsets' mean gradients, and how far a step along one subset's gradient "
    "lowers the other's loss.",
    figure, lambda results: results.sizes["subset"] > 2, section="subsets",
)  # fmt: skip
