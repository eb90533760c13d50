"""Between subsets: cosines of their mean gradients, and below how far they help each other."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import cosine_over_training, cross_help_over_training
from analyze.figures.bands import MANY
from analyze.figures.cross_help_over_training import has_cross_help
from analyze.figures.entry import FigureEntry
from analyze.figures.panels import stacked
from analyze.figures.subset_pairs import pairs
from analyze.statistics.between_subsets import has_sums


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel of cosines, and one of cross help where it is known."""
    panels: list[Callable[..., Axes]] = [cosine_over_training.draw]
    if has_cross_help(results):
        panels.append(cross_help_over_training.draw)
    return stacked(results, panels, x, [2.1] * len(panels))


def _caption(results: xr.DataTree) -> str:
    words = "Cosines between the subsets' mean gradients"
    if has_cross_help(results):
        words += (
            ", and how far a step along one subset's gradient lowers the other's loss, to first "
            "order; a subset and itself are different examples of it"
        )
    known = has_sums(results) and len(pairs(results)) <= MANY
    return f"{words}. Bands are 95 % intervals." if known else f"{words}."


FIGURE = FigureEntry(
    "between_subsets", "Cosines between subsets, and cross help",
    _caption,
    figure, lambda results: results.sizes["subset"] > 2, section="subsets",
)  # fmt: skip
