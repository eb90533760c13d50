"""The table of figures that report, comparison, gallery and pages show.

A new figure is a file in this folder with ``FIGURE``, and a line in one of the two lists.
"""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.figure import Figure

from analyze.figures import (
    between_subsets,
    coherence_over_training,
    energy_share,
    groups_over_training,
    layer_heatmap,
    layer_over_training,
    layer_profile,
    network_over_training,
    pair_ratio,
    run_ratios,
    runs_by_layer,
    runs_over_training,
    subset_contrast,
)
from analyze.figures.entry import FigureEntry

# Both are in the order of the page.
OF_A_RUN: tuple[FigureEntry, ...] = (
    network_over_training.FIGURE,
    coherence_over_training.FIGURE,
    between_subsets.FIGURE,
    layer_heatmap.FIGURE,
    subset_contrast.FIGURE,
    layer_profile.FIGURE,
    energy_share.FIGURE,
    layer_over_training.FIGURE,
)

OF_A_COMPARISON: tuple[FigureEntry, ...] = (
    runs_over_training.FIGURE,
    groups_over_training.FIGURE,
    pair_ratio.FIGURE,
    run_ratios.FIGURE,
    runs_by_layer.FIGURE,
)


def run_figures(results: xr.DataTree, x: str | None = None) -> dict[str, Figure]:
    """Every figure that the results of a run have the numbers for, by the name of its file.

    Raises:
        InputError: ``x``, the axis as for ``training``, is not known of any checkpoint.
    """
    return _drawn(OF_A_RUN, results, x)


def comparison_figures(comparison: xr.DataTree, ratios: Iterable[str] = ()) -> dict[str, Figure]:
    """Every figure of a comparison, by the name of its file.

    ``ratios`` are pairs, ``B / A``, with a figure besides those that have one anyway.

    Raises:
        InputError: a pair that the comparison does not have.
    """
    return _drawn(OF_A_COMPARISON, comparison, list(ratios))


def _drawn(table: Iterable[FigureEntry], tree: xr.DataTree, asked: object) -> dict[str, Figure]:
    return {name: f for entry in table for name, f in entry.figures(tree, asked).items()}
