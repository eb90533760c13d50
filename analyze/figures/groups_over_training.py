"""Groups of runs over training: the mean over the seeds of a configuration, with its band."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines
from analyze.figures.entry import FigureEntry
from analyze.figures.looks import run_look
from analyze.figures.names import figure_text
from analyze.results.sides import sides_of
from analyze.statistics.sizes import at_one_size

FAINT = 0.35  # opacity of the runs of a group


def draw(comparison: xr.DataTree, ax: Axes, subset: str) -> Axes:
    """Draw the geometric mean over the seeds of each group, its 95 % band, and each run faintly.

    Runs of no group are lines of their own. All are at the size shown, see ``statistics.sizes``.
    """
    network = at_one_size(comparison).sel(subset=subset)
    groups = at_one_size(comparison, "groups/network").sel(subset=subset)
    run_lines.set_run_axes(comparison, ax)
    places = run_lines.training_of(comparison)
    for k, side in enumerate(sides_of(comparison)):
        if not side.is_group:
            run_lines.draw_run(ax, places, network.sel(run=side.name), k, side.name)
            continue
        for run in side.runs:
            value = network["m_coherence"].sel(run=run).values
            known = np.isfinite(value)
            ax.plot(places.values[known], value[known], color=run_look(k).colour, alpha=FAINT,
                    linewidth=0.7, label="_run")  # fmt: skip
        name = f"{side.name} ({len(side.runs)} runs)"
        run_lines.draw_run(ax, places, groups.sel(group=side.name), k, name, band=True)
    ax.set_title(figure_text(subset), loc="left")
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel of the groups for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


FIGURE = FigureEntry(
    "groups", "Groups of runs over training",
    "The geometric mean over the runs of each group, its 95 % interval over seeds, and its runs "
    "faintly.",
    figure, lambda comparison: "groups" in comparison.children, section="static", leading=True,
)  # fmt: skip
