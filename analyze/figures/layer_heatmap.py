"""M-coherence of every layer at every checkpoint, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analyze.figures.colours import INK, LINE, MISSING, MUTED, SURFACE
from analyze.figures.names import figure_text
from analyze.figures.training import Training, compact, training
from analyze.probes.subsets import ALL
from analyze.statistics.ratios import RATE

COLOURS = "viridis"
LOWEST = 0.1  # far below orthogonal; what is lower has the same colour
LONGEST_BAR = 2.6  # inches
LONGEST = 36  # characters of a layer's name
LONGEST_TYPE = 22  # of its type
SMALLEST_CELL = 4.0  # points, of a cell with room for a dot


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

    The scale is logarithmic and the same for all subsets of the results. Cells without a value
    are hatched. A dot marks a value that cannot be told from chance: its p-value, adjusted for the
    false discovery rate over the panel, is above 5 %.

    Args:
        results: The results tree.
        ax: Where to draw.
        subset: Whose gradients.
        x: What the columns are labelled by, as for ``training``; they keep their order.
        names: Whether to write the layers' names and types on the left.
        colourbar: Whether to put the scale at the right.
    """
    values = results["layers"].to_dataset()["m_coherence"].sel(subset=subset)
    table = values.transpose("layer", "checkpoint").values
    low, high = colour_limits(results)
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(np.maximum(table, low)),
        cmap=COLOURS, norm=LogNorm(low, high), rasterized=True, antialiased=False, zorder=1,
    )  # fmt: skip
    set_cells(ax, table)
    _mark_chance(results, ax, subset)
    label_checkpoints(ax, training(results, x))
    label_layers(ax, *names_and_types(results), names=names)
    if colourbar:
        add_colourbar(mesh, ax, lower=bool(np.nanmin(table, initial=np.inf) < low))
    return ax


def set_cells(ax: Axes, table: np.ndarray) -> None:
    """Axes for a table ``[layer, checkpoint]``: bare, hatched where nothing will cover them."""
    ax.set(xlim=(0, table.shape[1]), ylim=(table.shape[0], 0))
    ax.patch.set(facecolor="none")
    if np.isnan(table).any():  # shows through the mesh where it is masked
        ax.patch.set(facecolor=MISSING, hatch="//////", edgecolor=LINE, linewidth=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def colour_limits(results: xr.DataTree) -> tuple[float, float]:
    """The ends of one scale for all subsets: at most 1 and at least 10."""
    values = results["layers"].to_dataset()["m_coherence"].values
    known = values[np.isfinite(values)]
    low = min(1.0, known.min(initial=1.0))
    return max(float(low), LOWEST), float(known.max(initial=10.0))


def add_colourbar(mesh: QuadMesh, ax: Axes, *, lower: bool) -> None:
    """The scale of a heat map at its right; an arrow if values lie below it."""
    height = ax.get_window_extent().height / ax.figure.dpi  # inches
    length = min(height, LONGEST_BAR)
    bar = ax.figure.colorbar(
        mesh, ax=ax, extend="min" if lower else "neither", pad=0.03, fraction=0.08,
        shrink=length / height, aspect=length / 0.09, anchor=(0.0, 1.0),
    )  # fmt: skip
    bar.set_label("m-coherence (examples)")
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 3)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _mark_chance(results: xr.DataTree, ax: Axes, subset: str) -> None:
    """Dots where the value cannot be told from chance, if cells are large enough to show them."""
    layers = results["layers"].to_dataset()
    if "p_value_adjusted" not in layers:
        return
    chance = layers["p_value_adjusted"].sel(subset=subset).transpose("layer", "checkpoint") > RATE
    box = ax.get_window_extent()
    points = min(box.height / chance.shape[0], box.width / chance.shape[1]) * 72 / ax.figure.dpi
    if points >= SMALLEST_CELL:
        rows, columns = np.nonzero(chance.values)
        ax.plot(
            columns + 0.5, rows + 0.5, ".", color=SURFACE, markersize=min(0.35 * points, 3.5),
            markeredgewidth=0, zorder=2, label="_chance", rasterized=True,
        )  # fmt: skip


def label_checkpoints(ax: Axes, along: Training) -> None:
    """Ticks below some columns, as many as there is room for when the figure is drawn."""

    def label(place: float, _: int) -> str:
        column = round(place - 0.5)
        inside = 0 <= column < len(along.values) and np.isfinite(along.values[column])
        return _tick(along, column) if inside else ""

    ax.xaxis.set_major_locator(_Centres())
    ax.xaxis.set_major_formatter(FuncFormatter(label))
    ax.set_xlabel(figure_text(along.label))


def _tick(along: Training, column: int) -> str:
    return along.ticks[column] if along.falling else compact(along.values[column])


class _Centres(MaxNLocator):
    """Ticks in the middle of columns."""

    def __init__(self) -> None:
        super().__init__("auto", integer=True)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Of all places, those of whole columns."""
        places = super().tick_values(vmin, vmax - 1)
        return [place + 0.5 for place in places if vmin <= place < vmax]


def label_layers(
    ax: Axes, layers: Sequence[str], types: Sequence[str] | None = None, *, names: bool = True
) -> None:
    """Names and, in a column of their own, types; every n-th where rows are low."""
    if not names:
        ax.yaxis.set_major_locator(NullLocator())
        return
    points = ax.get_window_extent().height * 72 / ax.figure.dpi / len(layers)  # of one row
    every = max(1, int(np.ceil(5.5 / points)))
    size = float(np.clip(0.85 * points * every, 5.0, 7.5))
    rows = np.arange(0, len(layers), every)
    labels = [figure_text(layers[int(row)], LONGEST) for row in rows]
    ax.set_yticks(rows + 0.5, labels, fontsize=size, color=INK)
    if types is not None:
        _write_types(ax, [types[int(row)] for row in rows], rows, size)


def _write_types(ax: Axes, types: Sequence[str], rows: np.ndarray, size: float) -> None:
    """Between the names and the cells."""
    shown = [figure_text(name, LONGEST_TYPE) for name in types]
    width = max(_width(name, size) for name in shown)
    for row, text in zip(rows, shown, strict=True):
        ax.annotate(
            text, (0, row + 0.5), (-width - 5, 0), textcoords="offset points",
            xycoords=ax.get_yaxis_transform(), ha="left", va="center_baseline", fontsize=size,
            color=MUTED, annotation_clip=False,
        )  # fmt: skip
    ax.tick_params(axis="y", pad=width + 11)


def names_and_types(results: xr.DataTree) -> tuple[list[str], list[str]]:
    """The layers of results, for ``label_layers``."""
    layers = results["layers"].to_dataset()
    names, types = ([str(v) for v in layers[key].values] for key in ("layer", "layer_type"))
    return names, types


def _width(text: str, size: float) -> float:
    """Points that a text takes in the font of the style."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) if text.strip() else 0.0
