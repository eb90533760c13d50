"""M-coherence along the layers at chosen checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.errors import InputError, listed
from analyze.figures.bands import SHADE, interval_of, lowest, shown
from analyze.figures.cells import every_nth
from analyze.figures.coherence_over_training import set_coherence_axis
from analyze.figures.colours import INK, SEQUENCE, SURFACE
from analyze.figures.entry import FigureEntry
from analyze.figures.lines import EndLabel, draw_guide, end_label, write_end_labels
from analyze.figures.looks import MARKERS
from analyze.figures.names import figure_text, legend_label
from analyze.figures.panels import LONGEST as LONGEST_TITLE
from analyze.figures.panels import grid, probe_count
from analyze.figures.style import SMALLEST, missing_glyphs_allowed, style
from analyze.figures.training import training
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.results.tree import OK
from analyze.statistics.sizes import shown_size

LONGEST = 24  # characters of a layer's name
NARROWEST = 8.0  # points between two names
FEW = 60  # layers with markers
DODGE = 0.1  # between the bars of two checkpoints


def draw(
    results: xr.DataTree,
    ax: Axes,
    subset: str = ALL,
    checkpoints: Sequence[str] | None = None,
    *,
    x: str | None = None,
    names: bool = True,
) -> Axes:
    """Draw m-coherence of every layer, in forward order, with 95 % intervals.

    Without names of checkpoints (up to four) they are the first and last that were measured, the
    one where the network's m-coherence of the subset is highest, and one in the middle of the
    others. ``x``, as for ``training``, names them in the figure; ``names`` are those of the layers.

    Raises:
        InputError: a checkpoint that the results do not have, or more than four.
    """
    size = shown_size(results)
    layers = shown(results, "layers").sel(subset=subset).transpose("checkpoint", "layer", ...)
    table, (lower, upper) = layers["m_coherence"].values, interval_of(layers)
    set_coherence_axis(ax, table, size)
    along, places = training(results, x), np.arange(table.shape[1])
    labels: list[EndLabel] = []
    for k, row in enumerate(_rows(results, subset, checkpoints)):
        colour = SEQUENCE[k % len(SEQUENCE)]
        y = table[row]
        few = len(places) <= FEW
        beside = places + (DODGE * (k - 1.5) if few else 0.0)
        ax.plot(
            beside, y, color=colour, marker=MARKERS[k].name if few else "", linewidth=1.1,
            label=legend_label(along.names[row]), markeredgecolor=SURFACE,
            markeredgewidth=0.5, zorder=3,
        )  # fmt: skip
        low, high = np.maximum(lower[row], lowest(ax)), upper[row]
        if few:
            ax.vlines(beside, low, high, color=colour, linewidth=0.7, zorder=2)
        else:
            ax.fill_between(places, low, high, color=colour, alpha=SHADE, linewidth=0, zorder=2)
        labels += end_label(along.names[row], y, colour)
    draw_guide(ax, size.orthogonal)
    ax.set_xlim(-0.5, len(places) - 0.5)
    _label_layers(ax, [str(n) for n in layers["layer"].values], names)
    write_end_labels(ax, labels)
    return ax


def _rows(results: xr.DataTree, subset: str, wanted: Sequence[str] | None) -> list[int]:
    """Indices of the chosen checkpoints, in the order of training."""
    root = results.to_dataset()
    known = [str(name) for name in root["checkpoint"].values]
    if wanted is not None:
        if (missing := [n for n in wanted if n not in known]) or len(wanted) > len(SEQUENCE):
            raise InputError(
                "these checkpoints cannot be drawn",
                found=listed(missing) if missing else f"{len(wanted)} of them",
                expected=f"up to {len(SEQUENCE)} of {listed(known)}",
                fix=f"checkpoints=[{known[0]!r}]",
            )
        return sorted(known.index(name) for name in wanted)
    network = results["network"].to_dataset()["m_coherence"].sel(subset=subset).values
    measured = np.flatnonzero((root["status"].values.astype(str) == OK) & np.isfinite(network))
    if not len(measured):
        return []
    peak = int(measured[np.argmax(network[measured])])
    ends = {int(measured[0]), peak, int(measured[-1])}
    later = [int(k) for k in measured if k not in ends and k > peak]
    rest = later or [int(k) for k in measured if k not in ends]
    return sorted(ends | set(rest[len(rest) // 2 : len(rest) // 2 + 1]))


def _label_layers(ax: Axes, layers: list[str], names: bool) -> None:
    """Write upright names, every n-th where columns are narrow."""
    points = ax.get_window_extent().width * 72 / ax.figure.dpi / max(len(layers), 1)
    every = max(1, int(np.ceil(NARROWEST / points)))
    rows = np.arange(0, len(layers), every)
    shown = [figure_text(layers[row], LONGEST) if names else "" for row in rows]
    ax.set_xticks(rows, shown, rotation=90, fontsize=SMALLEST)
    if names:
        ax.set_xlabel("layer, in forward order" + (f"; {every_nth(every)}" * (every > 1)))


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel for each subset."""
    subsets = shown_subsets(results)
    with style():
        figure, axes = grid(len(subsets), 1, 1.25, 1.1, sharex=True)
        figure.supylabel(shown_size(results).quantity, fontsize=8)
        _draw_panels(results, axes, subsets, x)
        # Again: layers' names take height from the panels, and labels are set apart by height.
        if (layout := figure.get_layout_engine()) is not None:
            with missing_glyphs_allowed():
                layout.execute(figure)
        _draw_panels(results, axes, subsets, x)
    return figure


def _draw_panels(
    results: xr.DataTree, axes: Sequence[Axes], subsets: Mapping[str, str], x: str | None
) -> None:
    """Draw every panel anew, with the layers' names below the last."""
    for k, (ax, (name, label)) in enumerate(zip(axes, subsets.items(), strict=True)):
        ax.clear()
        draw(results, ax, name, x=x, names=k == len(subsets) - 1)
        note = shown_size(results).note(probe_count(results, name))
        title = f"{figure_text(label, LONGEST_TITLE)}, {note}"
        ax.set_title(title, color=INK)
        ax.set_ylabel("")


FIGURE = FigureEntry(
    "profile", "The layers at some checkpoints",
    "One line for each of the chosen checkpoints, in forward order.", figure, section="layers",
    sized=True,
)  # fmt: skip
