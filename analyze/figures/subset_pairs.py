"""Lines over training for pairs of subsets: which pairs, in which colours, under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.colours import SURFACE
from analyze.figures.lines import EndLabel, end_label, marked
from analyze.figures.looks import Look, further_look, subset_looks
from analyze.figures.names import legend_label, plain, shortened
from analyze.figures.training import Training, set_training_axis
from analyze.probes.subsets import ALL

MOST = 6  # pairs beyond which each subset is shown with all training probes only


@dataclass(frozen=True)
class Pair:
    """Two subsets, and the look of their line."""

    first: str
    second: str
    label: str
    look: Look

    def values(self, matrix: xr.DataArray) -> np.ndarray:
        """Values ``[checkpoint]`` of these two subsets in a variable between subsets."""
        return matrix.sel(subset=self.first, subset_other=self.second).values


def pairs(results: xr.DataTree, *, within: bool = False) -> list[Pair]:
    """Every two subsets; where these are more than six, each subset with ``all``.

    With ``within`` each subset is paired with itself as well, if there is room.
    """
    names = [str(n) for n in results.to_dataset()["subset"].values if n != ALL]
    looks, two = subset_looks(names), list(combinations(names, 2))
    if len(two) > MOST:
        return [Pair(n, ALL, f"{_short(n)} · all", looks[n]) for n in names]
    chosen = [
        Pair(a, b, f"{_short(a)} · {_short(b)}", further_look(k)) for k, (a, b) in enumerate(two)
    ]
    if within and len(two) + len(names) <= MOST:
        chosen += [Pair(n, n, f"{_short(n)} · itself", looks[n]) for n in names]
    return chosen


def draw_pairs(ax: Axes, along: Training, lines: Mapping[Pair, np.ndarray]) -> list[EndLabel]:
    """Draw a line ``[checkpoint]`` for each pair; returns the labels for ``write_end_labels``."""
    labels: list[EndLabel] = []
    for pair, y in lines.items():
        ax.plot(
            along.values, y, label=legend_label(pair.label), **pair.look.line,
            markevery=marked(y), markeredgecolor=SURFACE, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
        labels += end_label(pair.label, y, pair.look.colour)
    set_training_axis(ax, along)
    return labels


def _short(name: str) -> str:
    return shortened(plain(name), 11)
