"""Cosine between the mean gradients of two subsets over training, a line for each pair."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.bands import MANY, draw_interval
from analyze.figures.colours import LINE
from analyze.figures.intervals import fold_count, t_quantile
from analyze.figures.lines import write_end_labels
from analyze.figures.subset_pairs import draw_pairs, pairs
from analyze.figures.training import training


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw ``gradient_cosine`` of the network with 95 % intervals, from -1 to 1.

    A pair of subsets each; where these are more than six, each subset with all training probes.
    Then there are no intervals. These are Student's t of the jackknife over folds, cut at -1 and
    1. A mean gradient that is mostly noise brings the cosine nearer to 0.

    Args:
        results: The results tree.
        ax: Where to draw.
        x: ``step``, ``epoch`` or ``loss``, as for ``training``.
    """
    network, along = results["network"].to_dataset(), training(results, x)
    chosen = pairs(results)
    value = {p: _of(network["gradient_cosine"], p.first, p.second).values for p in chosen}
    labels = draw_pairs(ax, along, value)
    if "gradient_cosine_stderr" in network and len(chosen) <= MANY:
        for pair, y in value.items():
            error = _of(network["gradient_cosine_stderr"], pair.first, pair.second).values
            folds = min(fold_count(results, name) for name in (pair.first, pair.second))
            width = t_quantile(folds - 1.0) * error
            lower, upper = (y - width).clip(-1, 1), (y + width).clip(-1, 1)
            draw_interval(ax, along, lower, upper, pair.colour)
    ax.axhline(0.0, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_guide")
    ax.set_ylim(-1.05, 1.05)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.set_ylabel("cosine of mean gradients")
    write_end_labels(ax, labels)
    return ax


def _of(values: xr.DataArray, first: str, second: str) -> xr.DataArray:
    return values.sel(subset=first, subset_other=second)
