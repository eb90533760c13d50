"""Lines between two subsets over training: which pairs, in which colours, under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.colours import FURTHER, MARKERS, SURFACE, subset_colours, subset_dashes
from analyze.figures.lines import EndLabel, marked
from analyze.figures.names import legend_label, plain, shortened
from analyze.figures.training import Training, set_training_axis
from analyze.probes.subsets import ALL

MOST = 6  # pairs beyond which each subset is shown with all training probes only


@dataclass(frozen=True)
class Pair:
    """Two subsets, and how their line looks."""

    first: str
    second: str
    label: str
    colour: str
    dashes: str = "-"

    def values(self, matrix: xr.DataArray) -> np.ndarray:
        """``[checkpoint]``, what a variable between subsets has for these two."""
        return matrix.sel(subset=self.first, subset_other=self.second).values


def pairs(results: xr.DataTree, *, within: bool = False) -> list[Pair]:
    """Every two subsets; where these are more than six, each subset with ``all``.

    Args:
        results: The results tree.
        within: Whether to give each subset with itself as well, if there is room.
    """
    names = [str(n) for n in results.to_dataset()["subset"].values if n != ALL]
    two = list(combinations(names, 2))
    if len(two) > MOST:
        colours, dashes = subset_colours(names), subset_dashes(names)
        return [Pair(n, ALL, f"{_short(n)} · all", colours[n], dashes[n]) for n in names]
    chosen = [Pair(a, b, f"{_short(a)} · {_short(b)}", FURTHER[k]) for k, (a, b) in enumerate(two)]
    if within and len(two) + len(names) <= MOST:
        colours = subset_colours(names)
        chosen += [Pair(n, n, f"{_short(n)} · itself", colours[n]) for n in names]
    return chosen


def draw_pairs(ax: Axes, along: Training, lines: Mapping[Pair, np.ndarray]) -> list[EndLabel]:
    """A line for each pair, ``[checkpoint]``, with the names for ``write_end_labels``."""
    labels = []
    for k, (pair, y) in enumerate(lines.items()):
        ax.plot(
            along.values, y, label=legend_label(pair.label), color=pair.colour,
            linestyle=pair.dashes, marker=MARKERS[k % len(MARKERS)], markevery=marked(y),
            markeredgecolor=SURFACE, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
        known = y[np.isfinite(y)]
        if len(known):
            labels.append(EndLabel(pair.label, float(known[-1]), pair.colour))
    set_training_axis(ax, along)
    return labels


def _short(name: str) -> str:
    return shortened(plain(name), 11)
