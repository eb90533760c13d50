"""The figures of a comparison as files: which panels, how large, and of which pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.comparison.figures import draw_groups, draw_ratio, draw_runs
from analyze.errors import InputError, listed
from analyze.figures.multiples import multiples
from analyze.figures.names import figure_text, unmarked
from analyze.figures.style import style
from analyze.probes.subsets import ALL

WIDTH = 7.0  # inches
PAIRS = 6  # with a figure of their own unless others are asked for
SUBSETS = 4  # with a figure of every layer
LAYERS = 90  # beyond which only one subset has it
COLUMNS = 4  # heat maps side by side
TALLEST = 40.0  # inches
LEGEND = 4  # names in a line
LONGEST = 22  # characters of a panel's title


def comparison_figures(comparison: xr.DataTree, ratios: Iterable[str] = ()) -> dict[str, Figure]:
    """Every figure of a comparison, by the name of its file.

    ``training``; ``ratio_N`` of the N-th pair, for the pairs with the first run, six at most, and
    those asked for; ``groups`` where there are any; ``ratios``, every run against the first;
    ``layers_N`` for the N-th subset, of the first four that two runs have, or with more than
    ninety layers of one.

    Args:
        comparison: What ``compare`` gives.
        ratios: Further pairs, ``B / A``.

    Raises:
        InputError: a pair that the comparison does not have.
    """
    names = [str(pair) for pair in comparison["pairs/layers"].to_dataset()["pair"].values]
    wanted = list(ratios)
    if missing := [pair for pair in wanted if pair not in names]:
        raise InputError(
            "the comparison has no such pair",
            found=listed(missing),
            expected=f"one of {listed(names)}",
            fix=f"--ratio {names[0]!r}",
        )
    first = comparison.sizes["run"] - 1  # pairs are in the order of combinations
    drawn = dict.fromkeys([*names[: min(first, PAIRS)], *wanted])
    figures = {"training": training_figure(comparison)}
    figures |= {f"ratio_{names.index(p) + 1}": ratio_figure(comparison, p) for p in drawn}
    if "groups" in comparison.children:
        figures["groups"] = groups_figure(comparison)
    if first > 1:
        figures["ratios"] = ratios_figure(comparison, names[:first])
    every = [str(name) for name in comparison.to_dataset()["subset"].values]
    for subset in _with_layers(comparison):
        figures[f"layers_{every.index(subset) + 1}"] = layers_figure(comparison, subset)
    return figures


def training_figure(comparison: xr.DataTree) -> Figure:
    """A panel of the runs for each subset, on the same axes."""
    return _panels(comparison, draw_runs)


def groups_figure(comparison: xr.DataTree) -> Figure:
    """A panel of the groups for each subset, on the same axes."""
    return _panels(comparison, draw_groups)


def layers_figure(comparison: xr.DataTree, subset: str) -> Figure:
    """The runs in every layer, a panel each, on the same axes."""
    layers = [str(name) for name in comparison["layers"].to_dataset()["layer"].values]

    def draw(ax: Axes, layer: str) -> Axes:
        return draw_runs(comparison, ax, subset, layer=layer)

    with style():
        return multiples(layers, draw, comparison.sizes["run"], title=subset)


def ratio_figure(comparison: xr.DataTree, pair: str) -> Figure:
    """A panel of one pair's ratios for each subset that both have."""
    layers = comparison["pairs/layers"].to_dataset()
    known = layers["log_ratio"].sel(pair=pair).notnull().any(("checkpoint", "layer"))
    subsets = [str(name) for name in layers["subset"].values[known.values]]
    with style():
        figure = _maps(comparison, [(pair, subset) for subset in subsets])
        figure.suptitle(figure_text(f"{pair}: m-coherence of the layers"), fontsize=9)
    return figure


def ratios_figure(comparison: xr.DataTree, pairs: Sequence[str]) -> Figure:
    """A panel for each run against the first one, for all training probes where they have them."""
    subset = _headline(comparison)
    with style():
        figure = _maps(comparison, [(pair, subset) for pair in pairs])
        runs = [str(name) for name in comparison["network"].to_dataset()["run"].values]
        for ax, run in zip(figure.axes, runs[1:], strict=False):
            ax.set_title(figure_text(run, LONGEST), loc="left")
        title = f"runs / {runs[0]}: m-coherence of the layers, {subset}"
        figure.suptitle(figure_text(title), fontsize=9)
    return figure


def _maps(comparison: xr.DataTree, panels: Sequence[tuple[str, str]]) -> Figure:
    """Heat maps of pairs and subsets beside each other, with names at the left of each row."""
    columns = max(1, min(COLUMNS, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    layers = comparison["layers"].sizes["layer"]
    height = max(1.5, layers * (0.15 if layers <= 30 else max(0.06, 0.15 * (30 / layers) ** 0.5)))
    if rows > 2:  # many of them: an overview
        height = min(height, 2.4)
    figure = Figure(figsize=(WIDTH, min(rows * (height + 0.6) + 0.5, TALLEST)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for k, (pair, subset) in enumerate(panels):
        ax = grid.flat[k]
        last = k == min(columns, len(panels)) - 1
        draw_ratio(comparison, ax, pair, subset, names=k % columns == 0, colourbar=last)
        ax.set_title(figure_text(ax.get_title(loc="left"), LONGEST), loc="left")
    for ax in grid.flat[len(panels) :]:
        ax.remove()
    shown = list(grid.flat)[: len(panels)]
    if shown:
        figure.supxlabel(shown[0].get_xlabel(), fontsize=8)
    for ax in shown:
        ax.set_xlabel("")
    return figure


def _panels(comparison: xr.DataTree, draw: Callable[[xr.DataTree, Axes, str], Axes]) -> Figure:
    """A panel for each subset, in two columns, with one legend below."""
    subsets = [str(name) for name in comparison["network"].to_dataset()["subset"].values]
    columns = min(2, len(subsets))
    rows = math.ceil(len(subsets) / columns)
    with style():
        named: dict[str, Artist] = {}
        lines = math.ceil(comparison.sizes["run"] / LEGEND)
        figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.18 * lines + 0.3))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for k, (ax, subset) in enumerate(zip(grid.flat, subsets, strict=False)):
            draw(comparison, ax, subset)
            ax.tick_params(labelbottom=k + columns >= len(subsets))
            ax.set_xlabel(ax.get_xlabel() if k + columns >= len(subsets) else "")
            ax.set_ylabel(ax.get_ylabel() if k % columns == 0 else "")
            handles, names = ax.get_legend_handles_labels()
            named |= {str(n): h for n, h in zip(names, handles, strict=True)}
        for ax in grid.flat[len(subsets) :]:
            ax.remove()
        legend = figure.legend(
            handles=list(named.values()), labels=list(named), loc="outside lower center",
            ncols=LEGEND, frameon=False, fontsize=7,
        )  # fmt: skip
        unmarked(legend)
    return figure


def _with_layers(comparison: xr.DataTree) -> list[str]:
    """The subsets that have a figure of every layer."""
    if comparison["layers"].sizes["layer"] > LAYERS:
        return [_headline(comparison)]
    return _shared_subsets(comparison)[:SUBSETS]


def _headline(comparison: xr.DataTree) -> str:
    """``all`` where two runs have it, else the first subset that they have."""
    shared = _shared_subsets(comparison)
    return ALL if ALL in shared else shared[0]


def _shared_subsets(comparison: xr.DataTree) -> list[str]:
    """Subsets that two runs at least have."""
    counts = comparison.to_dataset()["probe_count"]
    several = (counts > 0).sum("run").values > 1
    return [str(name) for name in counts["subset"].values[several]]
