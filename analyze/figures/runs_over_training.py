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

    The values are those of a layer, or of the whole network. A line joins the checkpoints of its
    run across places that only other runs have. The scale is that of all runs and subsets.
    """
    group = "network" if layer is None else "layers"
    table = comparison[group].to_dataset().sel(subset=subset)
    table = table if layer is None else table.sel(layer=layer)
    run_lines.set_run_axes(comparison, ax, group)
    places, runs = run_lines.training_of(comparison), [str(name) for name in table["run"].values]
    for k, run in enumerate(runs):
        run_lines.draw_run(
            ax, places, table.isel(run=k), k, run, markers=layer is None, band=len(runs) <= MANY
        )
    counts = comparison.to_dataset()["probe_count"].sel(subset=subset).values
    run_lines.set_subset_title(ax, subset, counts)
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel of the runs for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


FIGURE = FigureEntry(
    "training", "Runs over training",
    "M-coherence of the whole network, a line for each run and a panel for each subset, all on the "
    "same axes. Bands are 95 % intervals, of up to six runs.",
    figure, section="static", leading=True,
)  # fmt: skip
