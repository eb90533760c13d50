"""Share of each layer in the squared gradient norms of the network, over training."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analyze.figures.cells import label_checkpoints
from analyze.figures.colours import INK, SURFACE
from analyze.figures.entry import FigureEntry
from analyze.figures.lines import EndLabel, write_end_labels
from analyze.figures.names import plain, shortened
from analyze.figures.panels import stacked
from analyze.figures.training import set_training_axis, training
from analyze.probes.subsets import ALL

COLOURS = "viridis"  # the first layer is dark, the last one light
NAMED = 8  # layers with a name at most, those with the largest shares
SMALLEST = 0.03  # share of a layer with a name at least
FEW = 40  # layers up to which there are lines between them


def has_energy(results: xr.DataTree) -> bool:
    """Whether results have the shares; those of older versions do not."""
    return "energy_share" in results["layers"].to_dataset()


def draw(results: xr.DataTree, ax: Axes, subset: str = ALL, *, x: str | None = None) -> Axes:
    """Draw ``energy_share`` of the layers on top of each other, the first layer at the bottom.

    The m-coherence of the network is the mean of its layers', weighted by these shares. Layers with
    large shares at the end are named there, and of many layers the first and the last one too.
    ``x`` is the axis, as for ``training``. Along the loss, which may turn back, checkpoints keep
    their order and equal distances.
    """
    values = results["layers"].to_dataset()["energy_share"].sel(subset=subset)
    share, along = values.transpose("checkpoint", "layer").values, training(results, x)
    places = np.arange(len(share)) + 0.5 if along.falling else along.values
    if along.falling:
        label_checkpoints(ax, along)
    else:
        set_training_axis(ax, along)
    tops = np.cumsum(np.nan_to_num(share), axis=1)
    tops[~np.isfinite(share).any(1)] = np.nan
    shades = matplotlib.colormaps[COLOURS](np.linspace(0.05, 0.95, share.shape[1]))
    _stack(ax, places, tops, shades)
    ax.set_ylim(0, 1)
    if not along.falling and np.isfinite(places).sum() > 1:
        ax.set_xlim(np.nanmin(places), np.nanmax(places))
    elif along.falling:
        ax.set_xlim(0.5, max(len(share) - 0.5, 1.0))
    ax.grid(False)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_ylabel("share of the network's sum\nof squared gradient norms")
    names = [str(name) for name in values["layer"].values]
    write_end_labels(ax, _names_of_large(names, tops))
    return ax


def _stack(ax: Axes, places: np.ndarray, tops: np.ndarray, shades: np.ndarray) -> None:
    """Draw the areas, or bars for a single checkpoint."""
    bottoms = np.pad(tops, ((0, 0), (1, 0)))[:, :-1]
    bottoms[np.isnan(tops[:, 0]), 0] = np.nan
    line = 0.3 if tops.shape[1] <= FEW else 0.0
    known = np.isfinite(places)
    for k, shade in enumerate(shades):
        bottom, top = bottoms[known, k], tops[known, k]
        if known.sum() == 1:
            ax.bar(places[known], top - bottom, 1.0, bottom, color=shade, label="_share")
            continue
        ax.fill_between(
            places[known], bottom, top, facecolor=shade, edgecolor=SURFACE, linewidth=line,
            label="_share", rasterized=not line, antialiased=line > 0,
        )  # fmt: skip


def _names_of_large(names: list[str], tops: np.ndarray) -> list[EndLabel]:
    """Labels at the last measured checkpoint, in the middle of large areas."""
    measured = np.flatnonzero(np.isfinite(tops).all(1))
    if not len(measured):
        return []
    ends = np.concatenate([[0.0], tops[measured[-1]]])
    share = np.diff(ends)
    large = {int(k) for k in np.argsort(-share)[:NAMED] if share[k] >= SMALLEST}
    if len(names) > FEW:
        large |= {0, len(names) - 1}  # which way the layers go
    return [
        EndLabel(f"{shortened(plain(names[k]), 18)} {share[k]:.0%}",
                 float(ends[k] + share[k] / 2), INK)
        for k in sorted(large)
    ]  # fmt: skip


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: one panel of all training probes."""
    return stacked(results, [draw], x, [2.6])


FIGURE = FigureEntry(
    "energy", "The layers' shares of the squared gradient norms",
    "Each layer's part, in percent, of the network's sum of squared gradient norms, over all "
    "training probes. M-coherence of the network is the mean of its layers', weighted by it.",
    figure, has_energy, section="layers",
)  # fmt: skip
