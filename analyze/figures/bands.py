"""95 % intervals around lines over training, and the band of what comes by chance."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from analyze.figures.colours import LINE
from analyze.figures.training import Training
from analyze.statistics.jackknife import root_interval
from analyze.statistics.sizes import shown_size
from analyze.statistics.warnings import folds_used

SHADE = 0.13  # opacity
FEW_BARS = 60  # checkpoints up to which each has its bar
MANY = 6  # lines whose bands can still be told apart
HATCH = "/////"


def fold_count(results: xr.DataTree, subset: str) -> int:
    """The number of folds in which a subset has probes: the blocks of its jackknife."""
    return int(folds_used(results).sel(subset=subset))


def with_interval(results: xr.DataTree, group: str = "network") -> xr.Dataset:
    """A group of results with the ends of the 95 % interval of m-coherence, NaN where unknown.

    Results that have none, as a tree of older numbers, get it from the error and the folds.
    """
    dataset = results[group].to_dataset()
    if "m_coherence_upper" in dataset:
        return dataset
    value = dataset["m_coherence"]
    degrees = (folds_used(results) - 1.0).broadcast_like(value).transpose(*value.dims)
    error = dataset["m_coherence_stderr"].transpose(*value.dims)
    most = results.to_dataset()["probe_count"].broadcast_like(value).transpose(*value.dims)
    ends = root_interval(value.values, error.values, degrees.values, most.values)
    lower, upper = (value.copy(data=end) for end in ends)
    return dataset.assign(m_coherence_lower=lower, m_coherence_upper=upper)


def shown(results: xr.DataTree, group: str = "network") -> xr.Dataset:
    """``with_interval`` at the size at which the results are shown, see ``statistics.sizes``."""
    counts = results.to_dataset()["probe_count"]
    return shown_size(results).of(with_interval(results, group), counts)


def interval_of(values: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval in ``shown``, of the same shape each."""
    return values["m_coherence_lower"].values, values["m_coherence_upper"].values


def draw_interval(
    ax: Axes,
    along: Training,
    lower: np.ndarray,
    upper: np.ndarray,
    colour: str,
    *,
    outlined: bool = False,
) -> None:
    """Draw an interval ``[checkpoint]`` as a band, and as a bar at a point without neighbours.

    Along the loss training can turn back and a band would cross itself: points have bars, of many
    every ``bar_step``-th, as more would hide each other. On a
    logarithmic axis intervals are cut at its end. Thin lines at both ends, with ``outlined``, tell
    a grey band from others.
    """
    lower = np.maximum(lower, lowest(ax))
    if along.falling:
        single = np.isfinite(upper) & (np.arange(len(upper)) % bar_step(len(upper)) == 0)
    else:
        single = alone(upper)
    if not along.falling:
        shade = to_rgba(colour, SHADE)
        edge = to_rgba(colour, 0.45) if outlined else "none"
        ax.fill_between(
            along.values, lower, upper, facecolor=shade, edgecolor=edge,
            linewidth=0.5 if outlined else 0, zorder=2,
        )  # fmt: skip
    single = single & np.isfinite(along.values)
    if single.any():
        ax.vlines(
            along.values[single], lower[single], upper[single], color=colour,
            linewidth=0.8 if along.falling else 1.2, zorder=2.5,
        )  # fmt: skip


def bar_step(count: int) -> int:
    """Which of many checkpoints have a bar: every one of a few, every k-th of more."""
    return 1 if count <= FEW_BARS else math.ceil(2 * count / FEW_BARS)


def lowest(ax: Axes) -> float:
    """The lowest value with a place on the axes: a logarithmic one has none for 0."""
    return ax.get_ylim()[0] / 2 if ax.get_yscale() == "log" else -np.inf


def draw_chance(ax: Axes, along: Training, lower: np.ndarray, upper: np.ndarray) -> None:
    """Draw the band that holds 95 % of the values by chance: hatched, as no band of a line is."""
    lower = np.maximum(lower, lowest(ax))
    order = np.argsort(along.values) if along.falling else np.arange(len(upper))
    ax.fill_between(
        along.values[order], lower[order], upper[order], facecolor="none", hatch=HATCH,
        edgecolor=to_rgba(LINE, 0.45), linewidth=0, zorder=0.5, label="_chance",
    )  # fmt: skip
    single = alone(upper) & np.isfinite(along.values)
    if single.any():
        ax.vlines(
            along.values[single], lower[single], upper[single], color=to_rgba(LINE, 0.35),
            linewidth=6, zorder=0.5,
        )  # fmt: skip


def alone(values: np.ndarray) -> np.ndarray:
    """Whether each value has no neighbour, so that no line shows it, ``[checkpoint]``."""
    known = np.pad(np.isfinite(values), 1)
    return known[1:-1] & ~known[:-2] & ~known[2:]
