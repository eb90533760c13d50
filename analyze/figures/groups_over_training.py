"""Groups of runs over training: the mean over the seeds of one configuration, with its band."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines
from analyze.figures.entry import FigureEntry
from analyze.figures.looks import run_look
from analyze.statistics.regrouping import provenance

FAINT = 0.35  # opacity of the runs of a group


def draw(comparison: xr.DataTree, ax: Axes, subset: str) -> Axes:
    """Draw the mean over the runs of each group, its 95 % band over seeds, and each run faintly.

    Runs of no group are lines of their own. All are at the size of the smallest run of the group.
    """
    network = comparison["network"].to_dataset().sel(subset=subset)
    groups = comparison["groups/network"].to_dataset().sel(subset=subset)
    members: dict[str, list[str]] = provenance(comparison)["groups"]
    run_lines.set_run_axes(comparison, ax)
    places = run_lines.training_of(comparison)
    for k, (name, runs) in enumerate(members.items()):
        mean = groups.isel(group=k)
        for run in runs:
            alpha = network["alpha_unbiased"].sel(run=run).values
            known = np.isfinite(alpha)
            value = 1 + (float(mean["compared_at"]) - 1) * alpha[known]
            ax.plot(places.values[known], value, color=run_look(k).colour, alpha=FAINT,
                    linewidth=0.7, label="_run")  # fmt: skip
        run_lines.draw_run(ax, places, mean, k, f"{name} ({len(runs)} runs)", band=True)
    grouped = {run for runs in members.values() for run in runs}
    rest = [str(run) for run in network["run"].values if str(run) not in grouped]
    for k, run in enumerate(rest, start=len(members)):
        run_lines.draw_run(ax, places, network.sel(run=run), k, run)
    run_lines.set_subset_title(ax, subset, groups["compared_at"].values)
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel of the groups for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


FIGURE = FigureEntry(
    "groups", "Groups of runs over training",
    "The mean over the runs of each group, its 95 % interval over seeds, and its runs faintly; all "
    "at the size of the smallest run of the group.",
    figure, lambda comparison: "groups" in comparison.children, section="static", leading=True,
)  # fmt: skip
