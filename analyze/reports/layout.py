"""The figures of a report: which panels, how large."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import (
    accuracy_over_training,
    coherence_over_training,
    cosine_over_training,
    cross_help_over_training,
    energy_share,
    layer_heatmap,
    layer_over_training,
    layer_profile,
    loss_over_training,
    subset_contrast,
)
from analyze.figures.colours import INK
from analyze.figures.lines import shown_subsets
from analyze.figures.multiples import multiples
from analyze.figures.names import figure_text
from analyze.figures.style import style
from analyze.probes.subsets import ALL
from analyze.statistics.ratios import contrast

WIDTH = 7.0  # inches, of a page of a journal
PANELS = 4  # heat maps side by side
ROOM = 90  # panels of layers, with intervals in them
TALLEST = 40.0  # inches
LONGEST = 12  # characters of a panel's title


def report_figures(results: xr.DataTree, x: str | None = None) -> dict[str, Figure]:
    """Every figure that the results have the numbers for, by the name of its file.

    Args:
        results: The results tree.
        x: What checkpoints lie along: ``step``, ``epoch`` or ``loss``, as for ``training``.
    """
    figures = {"training": training_figure(results, x), "layers": layers_figure(results, x)}
    if x != "loss" and bool(np.isfinite(results.to_dataset()["loss"].sel(subset=ALL)).any()):
        figures["loss"] = loss_figure(results)
    figures["layer_panels"] = layer_panels_figure(results, x)
    figures["profile"] = profile_figure(results, x)
    if subset_contrast.has_contrast(results):
        figures["clean_corrupted"] = contrast_figure(results, x)
    if results.sizes["subset"] > 2:
        figures["between_subsets"] = between_subsets_figure(results, x)
    if energy_share.has_energy(results):
        figures["energy"] = energy_figure(results, x)
    return figures


def training_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """Coherence over training, and below on the same axis the loss and, where known, accuracy."""
    panels: list[Callable[..., Axes]] = [coherence_over_training.draw, loss_over_training.draw]
    if accuracy_over_training.has_accuracy(results):
        panels.append(accuracy_over_training.draw)
    return _stacked(results, panels, [2.4, 1, 1][: len(panels)], 1.5, x=x)


def loss_figure(results: xr.DataTree) -> Figure:
    """Coherence against the training loss, which falls from left to right."""
    return _stacked(results, [coherence_over_training.draw], [2.1], 1.5, x="loss")


def between_subsets_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """Cosines between the subsets and, where it is known, how far they help each other."""
    panels: list[Callable[..., Axes]] = [cosine_over_training.draw]
    if cross_help_over_training.has_cross_help(results):
        panels.append(cross_help_over_training.draw)
    return _stacked(results, panels, [1.0] * len(panels), 2.1, x=x)


def energy_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The layers' shares in the squared gradient norms of all training probes."""
    return _stacked(results, [energy_share.draw], [1.0], 2.6, x=x)


def layers_figure(results: xr.DataTree, x: str | None = None) -> Figure:
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
            first, last = k % columns == 0, k % columns == columns - 1 or k == len(subsets) - 1
            ax = grid.flat[k]
            layer_heatmap.draw(results, ax, name, x=x, names=first, colourbar=last and k < columns)
            ax.set_title(f"{figure_text(label, LONGEST)}\nm = {_size(results, name):,}", color=INK)
            if k // columns < rows - 1 and k + columns < len(subsets):
                ax.set_xlabel("")
        _one_label(figure, list(grid.flat)[: len(subsets)])
    return figure


def layer_panels_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """M-coherence over training, a panel for each layer; with intervals where there is room."""
    layers = [str(name) for name in results["layers"].to_dataset()["layer"].values]
    with style():
        return multiples(
            layers,
            lambda ax, name: layer_over_training.draw(
                results, ax, name, x=x, intervals=len(layers) <= ROOM
            ),
            len(shown_subsets(results)),
        )


def contrast_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """Clean against corrupted examples: ratio and difference in every layer."""
    first, second = subset_contrast.FIRST, subset_contrast.SECOND
    found = contrast(results, first, second, layers="layers")
    height = _panel_height(results["layers"].sizes["layer"])
    with style():
        figure = Figure(figsize=(WIDTH, min(height + 0.9, TALLEST)))
        grid = figure.subplots(1, 2)
        for k, (ax, quantity) in enumerate(zip(grid, subset_contrast.QUANTITIES, strict=True)):
            subset_contrast.draw(
                results, ax, first, second, quantity=quantity, x=x, found=found, names=k == 0
            )
    return figure


def profile_figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The layers at chosen checkpoints, a panel for each subset."""
    subsets = shown_subsets(results)
    with style():
        figure = Figure(figsize=(WIDTH, min(1.25 * len(subsets) + 1.1, TALLEST)))
        grid = figure.subplots(len(subsets), 1, sharex=True, squeeze=False)[:, 0]
        figure.supylabel("m-coherence (examples)", fontsize=8)
        # Twice: layers' names take height from the panels, by which labels are set apart.
        for _ in range(2):
            for k, (ax, (name, label)) in enumerate(zip(grid, subsets.items(), strict=True)):
                ax.clear()
                layer_profile.draw(results, ax, name, x=x, names=k == len(subsets) - 1)
                title = f"{figure_text(label, LONGEST)}, m = {_size(results, name):,}"
                ax.set_title(title, color=INK)
                ax.set_ylabel("")
            figure.draw_without_rendering()
    return figure


def _stacked(
    results: xr.DataTree,
    panels: Sequence[Callable[..., Axes]],
    heights: Sequence[float],
    inches: float,
    **options: Any,
) -> Figure:
    """Panels below each other on one axis, ``inches`` for each unit of height."""
    with style():
        figure = Figure(figsize=(WIDTH, inches * sum(heights)))
        grid = figure.subplots(
            len(panels), 1, sharex=True, height_ratios=list(heights), squeeze=False
        )[:, 0]
        for panel, ax in zip(panels, grid, strict=True):
            panel(results, ax, **options)
        for ax in grid[:-1]:
            ax.set_xlabel("")
        figure.align_ylabels()
    return figure


def _one_label(figure: Figure, axes: Sequence[Axes]) -> None:
    """A long label below each of some narrow panels would run into the next one's."""
    named = [ax for ax in axes if len(ax.get_xlabel()) > LONGEST + 4]
    if len(named) > 1:
        text = named[0].get_xlabel()
        for ax in named:
            ax.set_xlabel("")
        figure.supxlabel(text, fontsize=8)


def _size(results: xr.DataTree, subset: str) -> int:
    return int(results.to_dataset()["probe_count"].sel(subset=subset))


def _panel_height(layers: int) -> float:
    """Inches: rows are lower the more there are, but still a line of small print."""
    row = 0.17 if layers <= 30 else max(0.09, 0.17 * (30 / layers) ** 0.5)
    return max(1.6, row * layers)
