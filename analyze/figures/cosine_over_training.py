"""Cosine between the mean gradients of two subsets over training, a line for each pair."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.bands import MANY, draw_interval, fold_count
from analyze.figures.lines import draw_guide, write_end_labels
from analyze.figures.subset_pairs import draw_pairs, pairs
from analyze.figures.training import training
from analyze.statistics.jackknife import t_quantile


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw ``gradient_cosine`` of the network with 95 % intervals, from -1 to 1.

    Every two subsets have a line; where these are more than six, each subset with all training
    probes, without intervals. Intervals are Student's t of the jackknife over folds, cut at -1 and
    1. Noise in a mean gradient brings the cosine nearer to 0. ``x`` is that of ``training``.
    """
    network, along = results["network"].to_dataset(), training(results, x)
    chosen = pairs(results)
    values = {pair: pair.values(network["gradient_cosine"]) for pair in chosen}
    labels = draw_pairs(ax, along, values)
    if "gradient_cosine_stderr" in network and len(chosen) <= MANY:
        for pair, y in values.items():
            error = pair.values(network["gradient_cosine_stderr"])
            folds = min(fold_count(results, name) for name in (pair.first, pair.second))
            width = t_quantile(folds - 1.0) * error
            lower, upper = (y - width).clip(-1, 1), (y + width).clip(-1, 1)
            draw_interval(ax, along, lower, upper, pair.look.colour)
    draw_guide(ax, 0.0)
    ax.set_ylim(-1.05, 1.05)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.set_ylabel("cosine of mean gradients")
    write_end_labels(ax, labels)
    return ax
