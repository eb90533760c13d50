"""Runs side by side over training, a line for each run: the network, or one layer."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines
from analyze.figures.bands import MANY
from analyze.figures.entry import FigureEntry
from analyze.figures.names import figure_text
from analyze.results.presence import present
from analyze.statistics.sizes import at_one_size


def draw(comparison: xr.DataTree, ax: Axes, subset: str, *, layer: str | None = None) -> Axes:
    """Draw m-coherence over training, a line for each run, with 95 % bands of six runs or fewer.

    The values are those of a layer, or of the whole network, all at the size shown, see
    ``statistics.sizes``. A line joins the checkpoints of its run across places that only other runs
    have, and is broken where it has no value. The scale is that of all runs and subsets. Seeds of a
    configuration share its style.
    """
    group = "network" if layer is None else "layers"
    table = at_one_size(comparison, group).sel(subset=subset)
    table = table if layer is None else table.sel(layer=layer)
    run_lines.set_run_axes(comparison, ax, group)
    places, runs = run_lines.training_of(comparison), [str(name) for name in table["run"].values]
    styles, there = run_lines.run_styles(comparison), present(comparison)
    for run in runs:
        run_lines.draw_run(
            ax, places, table.sel(run=run), styles[run], run,
            there=there.sel(run=run).values, markers=layer is None, band=len(runs) <= MANY,
        )  # fmt: skip
    ax.set_title(figure_text(subset), loc="left")
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel of the runs for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


def caption(comparison: xr.DataTree) -> str:
    """The caption, with a word on gaps where there are some."""
    return (
        "M-coherence of the whole network, a line for each run and a panel for each subset, all on "
        "the same axes. Bands are 95 % intervals, of up to six runs."
        f"{run_lines.words_of_gaps(comparison)}"
    )


FIGURE = FigureEntry(
    "training", "Runs over training", caption, figure, section="static", leading=True,
)  # fmt: skip
