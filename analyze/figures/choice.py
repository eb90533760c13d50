"""``plot`` and ``titles``: one figure by its name, and which there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
import xarray as xr
from matplotlib.figure import Figure

from analyze.errors import like, unknown
from analyze.figures.entry import FigureEntry
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN
from analyze.results.file import tree_of

INLINE = "matplotlib_inline"  # how Jupyter and its like draw


def plot(
    results: str | Path | xr.DataTree, figure: str | None = None, *, x: str | None = None
) -> Figure:
    """One figure of the report, or of a comparison: m-coherence over training unless another.

    Args:
        results: A results file, the tree of one, or the tree of a comparison.
        figure: Its name, as ``analyze.figures.titles(results)`` lists them, or that of its file in
            ``analyze/figures``, as ``layer_heatmap``; None: the first of the page.
        x: What the figures of a run show training along: ``step``, ``epoch`` or ``loss``; None:
            steps where they are known, else epochs, else the order of the checkpoints.

    Returns:
        A figure of matplotlib, which a notebook shows, and ``savefig("name.pdf")`` writes.

    Raises:
        InputError: no results file, no such figure of these results, or ``x`` is not known of any
            checkpoint.

    Example:
        ``analyze.plot("half_noise.h5", "layer_heatmap").savefig("layers.pdf")``

    Cost: a second, some for hundreds of layers.
    """
    tree = tree_of(results)
    there = list(_choices(tree, x))
    _let_notebooks_show_figures()
    for name, entry, choice in there:
        if figure in (None, name, entry.name, _file_of(entry)):
            return entry.draw(tree, choice)
    known = [name for name, _, _ in there]
    files = {_file_of(entry): name for name, entry, _ in there}
    assert figure is not None
    near = like(figure, [*known, *files])
    fix = repr(near[0]) if near else "analyze.figures.titles(results) says what each shows"
    raise unknown("there is no such figure of these results", repr(figure), known, fix)


def titles(results: str | Path | xr.DataTree) -> dict[str, str]:
    """The figures that ``plot`` draws of some results, by name, with what each shows.

    Args:
        results: A results file, the tree of one, or the tree of a comparison.

    Returns:
        A title by the name of each figure, in the order of the page.

    Raises:
        InputError: no results file.

    Example:
        ``analyze.figures.titles("half_noise.h5")["layers"]``
    """
    tree = tree_of(results)
    return {name: entry.title for name, entry, _ in _choices(tree, None)}


def _choices(tree: xr.DataTree, x: str | None) -> Iterator[tuple[str, FigureEntry, Any]]:
    """The figures of a tree: their names, entries, and what to draw them with."""
    compared = "run" in tree.dims
    for entry in OF_A_COMPARISON if compared else OF_A_RUN:
        for name, choice in entry.choices(tree, [] if compared else x).items():
            yield name, entry, choice


def _file_of(entry: FigureEntry) -> str:
    """The name of the file that a figure is drawn in."""
    return str(entry.draw.__module__).rpartition(".")[2]


def _let_notebooks_show_figures() -> None:
    """Load the backend of a notebook, which pyplot would: it shows figures that are values."""
    if "IPython" in sys.modules and INLINE in mpl.get_backend():
        import_module(f"{INLINE}.backend_inline")
