"""Cross help over training: how far a step along one subset's gradient helps another."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

from analyze.figures.bands import MANY, draw_interval
from analyze.figures.lines import draw_guide, write_end_labels
from analyze.figures.names import figure_text
from analyze.figures.subset_pairs import draw_pairs, pairs
from analyze.figures.training import training
from analyze.results.carried import between
from analyze.statistics.between_subsets import has_sums

SMALLEST_SHARE = 1e-3  # share of the largest value below which the axis is linear


def has_cross_help(results: xr.DataTree) -> bool:
    """Whether results have cross help; those of older versions do not."""
    return "cross_help" in results["network"].to_dataset()


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw ``cross_help`` of the network: the drop of one subset's loss by a step for the other.

    With 95 % intervals, Student's t of the jackknife over folds, of up to six pairs.

    It is first-order, per unit of learning rate, and the same in both directions. Above 0 the two
    help each other, below 0 they harm. A subset and itself means different examples of it. The axis
    is logarithmic on both sides of 0. ``x`` is the axis, as for ``training``.
    """
    values, along = results["network"].to_dataset()["cross_help"], training(results, x)
    lines = {pair: pair.values(values) for pair in pairs(results, within=True)}
    every = np.abs(np.concatenate([y[np.isfinite(y)] for y in lines.values()] or [np.ones(1)]))
    largest = float(every.max(initial=0.0)) or 1.0
    lowest = 10.0 ** np.floor(np.log10(max(SMALLEST_SHARE * largest, 1e-300)))
    ax.set_yscale("symlog", linthresh=lowest, linscale=0.5)
    labels = draw_pairs(ax, along, lines)
    if has_sums(results) and len(lines) <= MANY:
        table = between(results)
        for pair in lines:
            lower, upper = (pair.values(table[f"cross_help_{end}"]) for end in ("lower", "upper"))
            draw_interval(ax, along, lower, upper, pair.look.colour)
    draw_guide(ax, 0.0)
    ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=lowest))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(_number))
    units = figure_text(results.to_dataset()["loss"].attrs.get("units", "nats"))
    ax.set_ylabel(f"cross help ({units} per\nunit of learning rate)")
    write_end_labels(ax, labels)
    return ax


def _number(value: float, _: int) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}", 1) if value < 0 else f"{value:g}"
