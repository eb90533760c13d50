"""Ratio of m-coherence between two runs or configurations, in every layer and checkpoint."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.errors import InputError, listed
from analyze.figures.cells import label_checkpoints, label_layers
from analyze.figures.entry import FigureEntry
from analyze.figures.names import figure_text
from analyze.figures.panels import columns_of, grid, table_height
from analyze.figures.run_lines import training_of
from analyze.figures.signed_cells import add_signed_bar, draw_signed, ratio_scale
from analyze.figures.style import NARROW, figure_width, style
from analyze.figures.training import LETTERS
from analyze.results.sides import sides_of
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import compared_at

PAIRS = 6  # pairs with a figure at most, besides those that are asked for
COLUMNS = 4  # heat maps side by side
LONGEST, SHORTER = 22, 14  # characters of a panel's title, in two columns of print and in one


def draw(
    comparison: xr.DataTree,
    ax: Axes,
    pair: str,
    subset: str,
    *,
    names: bool = True,
    colourbar: bool = True,
) -> Axes:
    """Draw the log ratio of a pair ``B / A`` in every layer and checkpoint.

    Hatched cells are not significant. The scale is that of all significant cells of the comparison;
    ``names`` are those of the layers.
    """
    layers = comparison["pairs/layers"].to_dataset()
    scale = ratio_scale(layers["log_ratio"].where(layers["p_value_adjusted"] <= RATE).values)
    table = layers.sel(pair=pair, subset=subset).transpose("layer", "checkpoint", ...)
    significant = table["p_value_adjusted"].values <= RATE
    mesh = draw_signed(ax, table["log_ratio"].values, significant, scale)
    label_checkpoints(ax, training_of(comparison))
    label_layers(ax, [str(name) for name in table["layer"].values], names=names)
    ax.set_title(figure_text(subset), loc="left")
    if colourbar:
        add_signed_bar(mesh, ax, "ratio of m-coherence", ratios=True)
    return ax


def figure(comparison: xr.DataTree, pair: str) -> Figure:
    """The figure: a panel for each subset that both have; all of them grey where no ratio is."""
    layers = comparison["pairs/layers"].to_dataset()
    known = layers["log_ratio"].sel(pair=pair).notnull().any(("checkpoint", "layer")).values
    subsets = [str(name) for name in layers["subset"].values[known if known.any() else ...]]
    panels = [(pair, subset) for subset in subsets]
    size = f"m-coherence of {compared_at(comparison):,} examples"
    return ratio_maps(comparison, panels, f"{pair}: {size}")


def ratio_maps(
    comparison: xr.DataTree,
    panels: Sequence[tuple[str, str]],
    title: str,
    names: Sequence[str] = (),
) -> Figure:
    """A figure of heat maps, one for each pair and subset, titled by name or subset."""
    columns = max(1, min(columns_of(COLUMNS), len(panels)))
    height = table_height(comparison["layers"].sizes["layer"], 0.15, 0.06, 1.5)
    if len(panels) > 2 * columns:  # an overview
        height = min(height, 2.4)
    with style():
        figure, axes = grid(len(panels), columns, height + 0.6, 0.5)
        for k, (ax, (pair, subset)) in enumerate(zip(axes, panels, strict=True)):
            last = k == min(columns, len(panels)) - 1
            draw(comparison, ax, pair, subset, names=k % columns == 0, colourbar=last)
            name = names[k] if names else subset
            longest = LONGEST if figure_width() >= NARROW else SHORTER
            ax.set_title(figure_text(name, longest), loc="left")
            figure.supxlabel(ax.get_xlabel(), fontsize=8)
            ax.set_xlabel("")
        letters = int(LETTERS * figure_width())
        figure.suptitle(textwrap.fill(figure_text(title), letters), fontsize=9)
    return figure


def pair_names(comparison: xr.DataTree) -> list[str]:
    """The pairs, ``B / A``, those with the first run or configuration first."""
    return [str(pair) for pair in comparison["pairs/layers"].to_dataset()["pair"].values]


def each(comparison: xr.DataTree, asked: Iterable[str] | None) -> dict[str, str]:
    """The pairs with the first one, six at most, and those asked for, by numbered names.

    Raises:
        InputError: a pair that the comparison does not have.
    """
    names, wanted = pair_names(comparison), list(asked or ())
    if missing := [pair for pair in wanted if pair not in names]:
        raise InputError(
            "the comparison has no such pair",
            found=listed(missing),
            expected=f"one of {listed(names)}" if names else "none, of a single configuration",
            fix=f"--ratio {names[0]!r}" if names else "leave --ratio out",
        )
    first = names[: min(len(sides_of(comparison)) - 1, PAIRS)]
    return {f"ratio_{names.index(p) + 1}": p for p in dict.fromkeys([*first, *wanted])}


FIGURE = FigureEntry(
    "ratio", "Ratio of layers",
    "A panel for each subset, layers against checkpoints. Hatched: not significant. Grey: not in "
    "both, or too close to 0.",
    figure, each=each, section="static", leading=True,
)  # fmt: skip
