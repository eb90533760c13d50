"""Accuracy over training, a line for each subset."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from analyze.figures.lines import draw_lines, write_end_labels


def has_accuracy(results: xr.DataTree) -> bool:
    """Whether any accuracy is known; losses that do not classify have none."""
    root = results.to_dataset()
    return "accuracy" in root and bool(np.isfinite(root["accuracy"]).any())


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw the share of each subset's probes that are classified as labelled, from 0 to 100 %.

    Without any accuracy the axes stay without lines. ``x`` is the axis, as for ``training``.
    """
    if not has_accuracy(results):
        return ax
    labels = draw_lines(results, ax, results.to_dataset()["accuracy"], x=x)
    ax.set_ylim(-0.02, 1.04)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_ylabel("accuracy")
    write_end_labels(ax, labels)
    return ax
