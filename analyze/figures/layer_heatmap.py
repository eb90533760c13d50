"""M-coherence of every layer at every checkpoint, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from analyze.figures import cells
from analyze.figures.colours import INK
from analyze.figures.entry import FigureEntry
from analyze.figures.names import figure_text
from analyze.figures.panels import LONGEST, columns_of, grid, probe_count, table_height
from analyze.figures.style import style
from analyze.figures.training import training
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.statistics.significance import within_chance
from analyze.statistics.sizes import ALPHA, at_one_size, shown_size

COLOURS = "viridis"
LOWEST = 0.1  # far below orthogonal; lower values have the same colour
PANELS = 4  # heat maps side by side


def draw(
    results: xr.DataTree,
    ax: Axes,
    subset: str = ALL,
    *,
    x: str | None = None,
    names: bool = True,
    colourbar: bool = True,
) -> Axes:
    """Draw the layers (the first on top) against the checkpoints, colour by m-coherence.

    All subsets are at one size, see ``statistics.sizes``.

    The scale is logarithmic and the same for all subsets of the results. Cells without a value
    are grey. Hatched are values that cannot be told from chance, see ``statistics.significance``.
    ``x``, as for ``training``, labels columns and leaves their order; ``names`` are the layers'
    names and types.
    """
    values, size = at_one_size(results, "layers")["m_coherence"], shown_size(results)
    table = values.sel(subset=subset).transpose("layer", "checkpoint").values
    low, high = colour_limits(results)
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(np.maximum(table, low)),
        cmap=COLOURS, norm=LogNorm(low, high), rasterized=True, antialiased=False, zorder=1,
    )  # fmt: skip
    cells.set_cells(ax, table)
    chance = within_chance(results["layers"].to_dataset()).sel(subset=subset)
    if bool(chance.any()):
        cells.hatch_cells(ax, chance.transpose("layer", "checkpoint").values, mesh)
    cells.label_checkpoints(ax, training(results, x))
    cells.label_layers(ax, *cells.names_and_types(results), names=names)
    if colourbar:
        lower = bool(np.nanmin(table, initial=np.inf) < low)
        ticks = LogLocator(10, subs=(1, 3))
        cells.add_colourbar(mesh, ax, size.quantity, ticks, _plain_number, lower=lower)
    return ax


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a heat map for each subset, with common names, order and colours."""
    subsets = shown_subsets(results)
    columns = min(len(subsets), columns_of(PANELS))
    height = table_height(results["layers"].sizes["layer"])
    with style():
        figure, axes = grid(len(subsets), columns, height + 0.9)
        for k, (ax, (name, label)) in enumerate(zip(axes, subsets.items(), strict=True)):
            draw(results, ax, name, x=x, names=k % columns == 0, colourbar=k == columns - 1)
            note = shown_size(results).note(probe_count(results, name))
            title = f"{figure_text(label, LONGEST)}\n{note}"
            ax.set_title(title, color=INK)
            if k + columns < len(subsets):
                ax.set_xlabel("")
        _one_label(figure, axes)
    return figure


def caption(results: xr.DataTree) -> str:
    """The caption: the meaning of rows, columns, greys and hatches that the results have."""
    size = shown_size(results)
    quantity = f"{size.quantity[:1].upper()}{size.quantity[1:]}"
    text = (
        f"{quantity}, for each layer in forward order at each checkpoint: one column per "
        "checkpoint, not to scale in time. All panels share the colours. Grey: no gradient, or "
        "not measured."
    )
    if bool(within_chance(results["layers"].to_dataset()).any()):
        text += (
            " Hatched: what cannot be told from chance, at a false discovery rate of 5 % in each "
            "panel."
        )
    return text


def colour_limits(results: xr.DataTree) -> tuple[float, float]:
    """The ends of the scale of all subsets: at most 1 and at least 10; three decades of alpha."""
    values, size = at_one_size(results, "layers")["m_coherence"].values, shown_size(results)
    known = values[np.isfinite(values)]
    if size.choice == ALPHA:
        highest = float(known.max(initial=1e-3))
        return highest / 1e3, highest
    low = min(1.0, known.min(initial=1.0))
    return max(float(low), LOWEST), float(known.max(initial=10.0))


def _one_label(figure: Figure, axes: Sequence[Axes]) -> None:
    """Join long labels below narrow panels, which would overlap, to one."""
    named = [ax for ax in axes if len(ax.get_xlabel()) > LONGEST + 4]
    if len(named) > 1:
        text = named[0].get_xlabel()
        for ax in named:
            ax.set_xlabel("")
        figure.supxlabel(text, fontsize=8)


def _plain_number(value: float, _: int) -> str:
    return f"{value:,.6g}"


FIGURE = FigureEntry(
    "layers",
    "M-coherence of layers",
    caption,
    figure,
    section="layers",
    leading=True,
    sized=True,
)
