"""Runs side by side in every layer, a panel for each layer, of one subset."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines, runs_over_training
from analyze.figures.entry import FigureEntry
from analyze.figures.multiples import multiples
from analyze.figures.style import style
from analyze.probes.subsets import ALL

SUBSETS = 4  # subsets with a figure
LAYERS = 90  # layers beyond which only one subset has a figure


def figure(comparison: xr.DataTree, subset: str) -> Figure:
    """The figure: a panel of the runs for each layer, on the same axes."""
    layers = [str(name) for name in comparison["layers"].to_dataset()["layer"].values]

    def draw(ax: Axes, layer: str) -> Axes:
        return runs_over_training.draw(comparison, ax, subset, layer=layer)

    with style():
        return multiples(layers, draw, comparison.sizes["run"], title=subset)


def shared_subsets(comparison: xr.DataTree) -> list[str]:
    """The subsets of at least two runs."""
    counts = comparison.to_dataset()["probe_count"]
    several = (counts > 0).sum("run").values > 1
    return [str(name) for name in counts["subset"].values[several]]


def headline(comparison: xr.DataTree) -> str:
    """``all`` if two runs have it, else the first subset that two runs have."""
    shared = shared_subsets(comparison)
    return ALL if ALL in shared else shared[0]


def each(comparison: xr.DataTree, asked: object) -> dict[str, str]:
    """The first subsets that two runs have, by numbered names; with many layers one subset."""
    every = [str(name) for name in comparison.to_dataset()["subset"].values]
    few = comparison["layers"].sizes["layer"] <= LAYERS
    subsets = shared_subsets(comparison)[:SUBSETS] if few else [headline(comparison)]
    return {f"layers_{every.index(subset) + 1}": subset for subset in subsets}


def caption(comparison: xr.DataTree) -> str:
    """The caption, with a word on gaps where there are some."""
    return (
        "A panel for each layer, a line for each run, all panels on the same axes."
        f"{run_lines.words_of_gaps(comparison)}"
    )


FIGURE = FigureEntry("layers", "Runs over training, layer by layer", caption, figure, each=each)
