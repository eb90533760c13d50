"""Clean against corrupted examples in every layer at every checkpoint."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.figures.cells import label_checkpoints, label_layers, names_and_types
from analyze.figures.entry import FigureEntry
from analyze.figures.names import figure_text
from analyze.figures.panels import columns_of, grid, table_height
from analyze.figures.signed_cells import add_signed_bar, difference_scale, draw_signed, ratio_scale
from analyze.figures.style import style
from analyze.figures.training import training
from analyze.results.carried import FIRST, SECOND, has_contrast, of_contrast
from analyze.statistics.ratios import contrast
from analyze.statistics.significance import RATE

QUANTITIES = ("ratio", "difference")


def draw(
    results: xr.DataTree,
    ax: Axes,
    first: str = FIRST,
    second: str = SECOND,
    *,
    quantity: str = "ratio",
    x: str | None = None,
    compared: xr.Dataset | None = None,
    names: bool = True,
    colourbar: bool = True,
) -> Axes:
    """Draw how much more the gradients of one subset agree than those of another.

    Both are compared at the size of the smaller one, ``1 + (n - 1) alpha_u``: as the ``ratio``
    second / first, or the ``difference`` second - first in examples. Cells are hatched where the
    p-value, adjusted for the false discovery rate over the panel, is above 5 %. ``x``, as for
    ``training``, labels the columns; ``names`` are the layers' names and types; ``compared`` is the
    ``contrast`` of the layers, where it is known already.

    Raises:
        InputError: no such quantity.
    """
    if quantity not in QUANTITIES:
        raise InputError(
            "there is no such contrast",
            found=repr(quantity),
            expected=f"one of {', '.join(QUANTITIES)}",
            fix='quantity="ratio"',
        )
    ratios = quantity == "ratio"
    if compared is None:
        compared = contrast(results, first, second, layers="layers")
    value, p = ("log_ratio", "p_value") if ratios else ("difference", "difference_p_value")
    table = compared[value].transpose("layer", "checkpoint").values
    significant = compared[f"{p}_adjusted"].transpose("layer", "checkpoint").values <= RATE
    shown = np.where(significant, table, np.nan)
    norm = ratio_scale(shown) if ratios else difference_scale(shown)
    mesh = draw_signed(ax, table, significant, norm)
    label_checkpoints(ax, training(results, x))
    label_layers(ax, *names_and_types(results), names=names)
    sign = "/" if ratios else "\N{MINUS SIGN}"
    what = figure_text(f"{second} {sign} {first}")
    ax.set_title(f"{what}\nat m = {int(compared['compared_at']):,}", loc="left")
    if colourbar:
        label = "ratio of m-coherence" if ratios else "difference of m-coherence (examples)"
        add_signed_bar(mesh, ax, label, ratios=ratios)
    return ax


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel of ratios and one of differences, clean against corrupted."""
    compared = of_contrast(results)
    height = table_height(results["layers"].sizes["layer"])
    with style():
        columns = columns_of(len(QUANTITIES))
        figure, axes = grid(len(QUANTITIES), columns, height + 0.9)
        for k, (ax, quantity) in enumerate(zip(axes, QUANTITIES, strict=True)):
            draw(results, ax, quantity=quantity, x=x, compared=compared, names=k % columns == 0)
    return figure


FIGURE = FigureEntry(
    "clean_corrupted", "Clean against corrupted examples in every layer",
    "Ratio and difference; what is not significant is hatched.",
    figure, has_contrast, section="layers",
)  # fmt: skip
