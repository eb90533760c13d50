"""Every run against the first one: a panel of ratios for each."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analyze.figures.entry import FigureEntry
from analyze.figures.pair_ratio import pair_names, ratio_maps
from analyze.figures.runs_by_layer import headline


def figure(comparison: xr.DataTree, choice: object = None) -> Figure:
    """The figure: a panel for each run but the first, of all training probes if runs have them."""
    subset = headline(comparison)
    first, *others = (str(name) for name in comparison["network"].to_dataset()["run"].values)
    panels = [(pair, subset) for pair in pair_names(comparison)[: len(others)]]
    title = f"runs / {first}: m-coherence of the layers, {subset}"
    return ratio_maps(comparison, panels, title, others)


FIGURE = FigureEntry(
    "ratios", "Ratio of layers, every run against the first",
    "A panel for each run, layers against checkpoints. Hatched: not significant. Grey: not in "
    "both runs, or too close to 0.",
    figure, lambda comparison: comparison.sizes["run"] > 2,  # two runs have one ratio only
)  # fmt: skip
