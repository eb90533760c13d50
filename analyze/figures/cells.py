"""Tables of layers and checkpoints as coloured cells: their axes, labels and scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator
from matplotlib.transforms import Affine2D

from analyze.figures.colours import INK, MISSING, MUTED, ON_DARK, ON_LIGHT, SURFACE
from analyze.figures.names import figure_text
from analyze.figures.style import NARROW, SMALLEST, width_of
from analyze.figures.training import Training, compact

LONGEST_BAR = 2.6  # inches
LETTERS = 5  # of a layer's name, for each inch of the figure
ROW = 8.0  # points of a row with a name
LONGEST_TYPE = 22  # characters of its type
DIGIT, MOST = 0.6, 9  # width of a digit in units of the font's size; labels below a table
HATCH = "////"
BRIGHT = 0.5  # luminance of a cell from which on its hatch is dark


def set_cells(ax: Axes, table: np.ndarray) -> None:
    """Set bare axes for a table ``[layer, checkpoint]``: grey where there is no value."""
    ax.set(xlim=(0, table.shape[1]), ylim=(table.shape[0], 0))
    ax.patch.set(facecolor=SURFACE)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if (missing := np.isnan(table)).any():
        ax.add_patch(
            PathPatch(
                outline(missing), facecolor=MISSING, edgecolor=MISSING, linewidth=0.3, zorder=0.8,
                label="_missing",
            )
        )  # fmt: skip


def hatch_cells(ax: Axes, where: np.ndarray, mesh: QuadMesh | None = None) -> None:
    """Hatch cells ``[layer, checkpoint]``: in figures and pages, what cannot be told from chance.

    Lines are white on dark cells of ``mesh`` and dark on bright ones; without it they are on paper.
    """
    if mesh is None:
        _hatch(ax, where, MUTED)
        return
    colours = mesh.to_rgba(np.ma.filled(np.ma.asarray(mesh.get_array()), 1.0))
    bright = np.dot(colours[..., :3], (0.2126, 0.7152, 0.0722)) > BRIGHT
    _hatch(ax, where & ~bright, ON_DARK)
    _hatch(ax, where & bright, ON_LIGHT)


def _hatch(ax: Axes, where: np.ndarray, colour: str) -> None:
    if where.any():
        ax.add_patch(
            PathPatch(
                outline(where), facecolor="none", edgecolor=colour, linewidth=0, hatch=HATCH,
                zorder=2, label="_chance",
            )
        )  # fmt: skip


def outline(where: np.ndarray) -> Path:
    """The chosen cells of a table as a path of rectangles, each as wide and as high as it gets."""
    closed: list[tuple[int, int, int, int]] = []  # left, top, right, bottom
    growing: dict[tuple[int, int], int] = {}  # top, by left and right
    for row, line in enumerate([*where, np.zeros(where.shape[1], dtype=bool)]):
        turns = np.flatnonzero(np.diff(np.pad(line.astype(int), 1)))
        found = {(int(left), int(right)) for left, right in turns.reshape(-1, 2)}
        closed += [(left, growing[left, right], right, row)
                   for left, right in growing if (left, right) not in found]  # fmt: skip
        growing = {ends: growing.get(ends, row) for ends in sorted(found)}
    paths = [Path.unit_rectangle().transformed(Affine2D().scale(r - x, b - y).translate(x, y))
             for x, y, r, b in closed]  # fmt: skip
    return Path.make_compound_path(*paths)


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

    longest = max((len(label(k + 0.5, 0)) for k in range(len(along.values))), default=0)
    size = float(ax.xaxis.get_ticklabels()[0].get_fontsize())
    ax.xaxis.set_major_locator(_Centres(ax, size * (DIGIT * longest + 1)))
    ax.xaxis.set_major_formatter(FuncFormatter(label))
    ax.set_xlabel(figure_text(along.label))


class _Centres(MaxNLocator):
    """A locator of ticks in the middle of columns, as far apart as some points."""

    def __init__(self, ax: Axes, apart: float) -> None:
        super().__init__(integer=True, min_n_ticks=1)
        self._ax, self._apart = ax, apart

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Places of ticks that are middles of columns."""
        points = self._ax.get_window_extent().width * 72 / self._ax.figure.dpi
        self.set_params(nbins=int(np.clip(points / self._apart, 1, MOST)))
        places = super().tick_values(vmin, vmax - 1)
        kept = [place for place in places if vmin <= place < vmax]
        columns = float(np.ceil(self._apart / points * (vmax - vmin)))  # of one label
        if len(kept) == 1 and kept[0] + 1.5 * columns <= vmax:
            kept.append(kept[0] + columns)
        return [place + 0.5 for place in kept]


def label_layers(
    ax: Axes, layers: Sequence[str], types: Sequence[str] | None = None, *, names: bool = True
) -> None:
    """Label rows with names and, in a second column, types; every n-th where rows are low.

    Another label says so then. A figure of one column of print has no types.
    """
    if not names:
        ax.yaxis.set_major_locator(NullLocator())
        return
    points = ax.get_window_extent().height * 72 / ax.figure.dpi / len(layers)  # of one row
    every = max(1, int(np.ceil(ROW / points)))
    size = float(np.clip(0.85 * points * every, SMALLEST, 7.5))
    rows, width = np.arange(0, len(layers), every), width_of(ax)
    labels = [figure_text(layers[int(row)], int(LETTERS * width)) for row in rows]
    ax.set_yticks(rows + 0.5, labels, fontsize=size, color=INK)
    if every > 1:
        ax.set_ylabel(every_nth(every))
    if types is not None and width >= NARROW:
        _write_types(ax, [types[int(row)] for row in rows], rows, size)


def every_nth(n: int) -> str:
    """``every 3rd layer named``, where there is no room for all names."""
    last = 0 if n % 100 in (11, 12, 13) else n % 10
    return f"every {n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') } layer named"


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
