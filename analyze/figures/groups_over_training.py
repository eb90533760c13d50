"""Groups of runs over training: the mean over the seeds of a configuration, with its band."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import run_lines
from analyze.figures.entry import FigureEntry
from analyze.figures.looks import run_look
from analyze.figures.names import figure_text
from analyze.results.presence import present
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
    places, there = run_lines.training_of(comparison), present(comparison)
    for k, side in enumerate(sides_of(comparison)):
        if not side.is_group:
            run_lines.draw_run(
                ax, places, network.sel(run=side.name), k, side.name,
                there=there.sel(run=side.name).values,
            )  # fmt: skip
            continue
        for run in side.runs:
            value, of_run = network["m_coherence"].sel(run=run).values, there.sel(run=run).values
            ax.plot(places.values[of_run], value[of_run], color=run_look(k).colour, alpha=FAINT,
                    linewidth=0.7, label="_run")  # fmt: skip
        name = f"{side.name} ({len(side.runs)} runs)"
        run_lines.draw_run(
            ax, places, groups.sel(group=side.name), k, name,
            there=there.sel(run=list(side.runs)).any("run").values, band=True,
        )  # fmt: skip
    ax.set_title(figure_text(subset), loc="left")
    return ax


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel of the groups for each subset, on the same axes."""
    return run_lines.subset_panels(comparison, draw)


def caption(comparison: xr.DataTree) -> str:
    """The caption, with a word on gaps and on lacking seeds where there are some."""
    return (
        "The geometric mean over the runs of each group, its 95 % interval over seeds, and its "
        f"runs faintly.{run_lines.words_of_gaps(comparison)}"
        f"{run_lines.words_of_seeds(comparison)}"
    )


FIGURE = FigureEntry(
    "groups", "Groups of runs over training", caption,
    figure, lambda comparison: "groups" in comparison.children, section="static", leading=True,
)  # fmt: skip
