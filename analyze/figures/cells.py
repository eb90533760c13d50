"""Tables of layers and checkpoints as coloured cells: their axes, labels and scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator

from analyze.figures.colours import INK, LINE, MISSING, MUTED
from analyze.figures.names import figure_text
from analyze.figures.training import Training, compact

LONGEST_BAR = 2.6  # inches
LONGEST = 36  # characters of a layer's name
LONGEST_TYPE = 22  # characters of its type


def set_cells(ax: Axes, table: np.ndarray) -> None:
    """Set bare axes for a table ``[layer, checkpoint]``, hatched where no cell covers them."""
    ax.set(xlim=(0, table.shape[1]), ylim=(table.shape[0], 0))
    ax.patch.set(facecolor="none")
    if np.isnan(table).any():  # shows through the mesh where it is masked
        ax.patch.set(facecolor=MISSING, hatch="//////", edgecolor=LINE, linewidth=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def add_colourbar(
    mesh: QuadMesh,
    ax: Axes,
    label: str,
    ticks: Locator,
    text: Callable[[float, int], str],
    *,
    lower: bool = False,
) -> None:
    """Add the colour bar of cells; with ``lower`` it ends in an arrow for values below it."""
    height = ax.get_window_extent().height / ax.figure.dpi  # inches
    length = min(height, LONGEST_BAR)
    bar = ax.figure.colorbar(
        mesh, ax=ax, extend="min" if lower else "neither", pad=0.03, fraction=0.08,
        shrink=length / height, aspect=length / 0.09, anchor=(0.0, 1.0),
    )  # fmt: skip
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(ticks)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(text))


def label_checkpoints(ax: Axes, along: Training) -> None:
    """Label some columns below, as many as have room when the figure is drawn."""

    def label(place: float, _: int) -> str:
        column = round(place - 0.5)
        if not (0 <= column < len(along.values) and np.isfinite(along.values[column])):
            return ""
        return along.ticks[column] if along.falling else compact(along.values[column])

    ax.xaxis.set_major_locator(_Centres())
    ax.xaxis.set_major_formatter(FuncFormatter(label))
    ax.set_xlabel(figure_text(along.label))


class _Centres(MaxNLocator):
    """A locator of ticks in the middle of columns."""

    def __init__(self) -> None:
        super().__init__("auto", integer=True)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Places of ticks that are middles of columns."""
        places = super().tick_values(vmin, vmax - 1)
        return [place + 0.5 for place in places if vmin <= place < vmax]


def label_layers(
    ax: Axes, layers: Sequence[str], types: Sequence[str] | None = None, *, names: bool = True
) -> None:
    """Label rows with names and, in a second column, types; every n-th where rows are low."""
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
    """Write the types between the names and the cells."""
    shown = [figure_text(name, LONGEST_TYPE) for name in types]
    width = max(_width(name, size) for name in set(shown))
    for row, text in zip(rows, shown, strict=True):
        ax.annotate(
            text, (0, row + 0.5), (-width - 5, 0), textcoords="offset points",
            xycoords=ax.get_yaxis_transform(), ha="left", va="center_baseline", fontsize=size,
            color=MUTED, annotation_clip=False,
        )  # fmt: skip
    ax.tick_params(axis="y", pad=width + 11)


def _width(text: str, size: float) -> float:
    """Width of a text in the font of the style, in points."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) if text.strip() else 0.0


def names_and_types(results: xr.DataTree) -> tuple[list[str], list[str]]:
    """Names and types of the layers of results, for ``label_layers``."""
    layers = results["layers"].to_dataset()
    return [str(v) for v in layers["layer"].values], [str(v) for v in layers["layer_type"].values]
