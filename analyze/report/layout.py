"""The figures of the page: which panels, how large."""

from __future__ import annotations

import math

import xarray as xr
from matplotlib.figure import Figure

from analyze.figures import (
    accuracy_over_training,
    coherence_over_training,
    layer_heatmap,
    loss_over_training,
)
from analyze.figures.colours import INK
from analyze.figures.lines import shown_subsets
from analyze.figures.names import figure_text
from analyze.figures.style import style

WIDTH = 7.0  # inches, of a page of a journal
PANELS = 4  # heat maps side by side
TALLEST = 40.0  # inches
LONGEST = 12  # characters of a panel's title


def training_figure(results: xr.DataTree) -> Figure:
    """Coherence over training, and below on the same axis the loss and, where known, accuracy."""
    panels = [coherence_over_training, loss_over_training]
    if accuracy_over_training.has_accuracy(results):
        panels.append(accuracy_over_training)
    heights = [2.4, 1, 1][: len(panels)]
    with style():
        figure = Figure(figsize=(WIDTH, 1.5 * sum(heights)))
        grid = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
        for panel, ax in zip(panels, grid, strict=True):
            panel.draw(results, ax)
        for ax in grid[:-1]:
            ax.set_xlabel("")
    return figure


def layers_figure(results: xr.DataTree) -> Figure:
    """A heat map for each subset, with common names, order and colours."""
    subsets = shown_subsets(results)
    columns = min(len(subsets), PANELS)
    rows = math.ceil(len(subsets) / columns)
    height = _panel_height(results["layers"].sizes["layer"])
    with style():
        figure = Figure(figsize=(WIDTH, min(rows * (height + 0.9), TALLEST)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[len(subsets) :]:
            ax.remove()
        for k, (name, label) in enumerate(subsets.items()):
            last = k % columns == columns - 1
            ax = grid.flat[k]
            layer_heatmap.draw(results, ax, name, names=k % columns == 0, colourbar=last)
            m = int(results.to_dataset()["probe_count"].sel(subset=name))
            ax.set_title(f"{figure_text(label, LONGEST)}\nm = {m:,}", color=INK)
            if k // columns < rows - 1 and k + columns < len(subsets):
                ax.set_xlabel("")
    return figure


def _panel_height(layers: int) -> float:
    """Inches: rows are lower the more there are, but still a line of small print."""
    row = 0.17 if layers <= 30 else max(0.09, 0.17 * (30 / layers) ** 0.5)
    return max(1.6, row * layers)
