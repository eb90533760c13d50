"""Every run against the first one: a panel of ratios for each."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analyze.figures.entry import FigureEntry
from analyze.figures.pair_ratio import pair_names, ratio_maps
from analyze.figures.runs_by_layer import headline
from analyze.results.sides import sides_of
from analyze.statistics.sizes import compared_at


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel for each run but the first, of all training probes if runs have them."""
    subset = headline(comparison)
    first, *others = (side.name for side in sides_of(comparison))
    panels = [(pair, subset) for pair in pair_names(comparison)[: len(others)]]
    title = f"each / {first}: m-coherence of {compared_at(comparison):,} examples, {subset}"
    return ratio_maps(comparison, panels, title, others)


FIGURE = FigureEntry(
    "ratios", "Ratio of layers, every run against the first",
    "A panel for each run, layers against checkpoints. Hatched: not significant. Grey: not in "
    "both, or too close to 0.",
    figure, lambda comparison: len(sides_of(comparison)) > 2,  # two have one ratio only
)  # fmt: skip
