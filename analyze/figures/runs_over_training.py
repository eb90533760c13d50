"""Runs side by side over training, a line for each run: the network, or one layer."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines
from analyze.figures.bands import MANY
from analyze.figures.entry import FigureEntry


def draw(comparison: xr.DataTree, ax: Axes, subset: str, *, layer: str | None = None) -> Axes:
    """Draw m-coherence over training, a line for each run, with 95 % bands of six runs or fewer.

    A line joins the checkpoints of its run across the places that only others have. The scale is
    that of all runs and subsets.

    Args:
        comparison: What ``compare`` gives.
        ax: Where to draw.
        subset: Whose gradients.
        layer: Its name; without it the whole network.
    """
    group = "network" if layer is None else "layers"
    table = comparison[group].to_dataset().sel(subset=subset)
    table = table if layer is None else table.sel(layer=layer)
    run_lines.set_run_axes(comparison, ax, group)
    places, runs = run_lines.training_of(comparison), [str(name) for name in table["run"].values]
    for k, run in enumerate(runs):
        one = table.isel(run=k)
        run_lines.draw_run(ax, places, one, k, run, markers=layer is None, band=len(runs) <= MANY)
    run_lines.set_subset_title(
        ax, subset, comparison.to_dataset()["probe_count"].sel(subset=subset).values
    )
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """A panel of the runs for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


FIGURE = FigureEntry(
    "training", "Runs over training",
    "M-coherence of the whole network, a line for each run and a panel for each subset, all on the "
    "same axes. Bands are 95 % intervals, of up to six runs.",
    figure, section="static", leading=True,
)  # fmt: skip
