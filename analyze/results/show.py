"""``show`` and ``to_csv``: the numbers of a results file as rows, and as a table in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from analyze.keywords import several
from analyze.results import rows as table
from analyze.results.file import tree_of
from analyze.statistics.grouping import group_by


def show(
    results: str | Path | xr.DataTree,
    *,
    layers: bool = False,
    checkpoint: str | None = None,
    layer: Sequence[str] = (),
    subset: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    sort: str | None = None,
    by: str | None = None,
) -> list[dict[str, object]]:
    """The numbers that ``analyze show`` prints, one row a checkpoint or layer, and subset.

    Args:
        results: A results file, or the tree of one.
        layers: Whether the rows are the layers at one checkpoint, in place of the network at each;
            ``checkpoint``, ``layer`` and ``by`` imply it.
        checkpoint: The checkpoint of the layers: a name, or a glob for several; None: the last
            measured one.
        layer: Globs of the layers to keep; empty: all.
        subset: Globs of the subsets to keep; empty: all.
        checkpoints: Globs of the network's checkpoints to keep; empty: all.
        sort: A column to sort by: numbers from the largest, text by alphabet.
        by: A row for each ``layer``, ``block`` or ``parameter``; None: as ``layers`` says.

    Returns:
        A dictionary for each row, as ``analyze show --json`` prints them: ``checkpoint``, ``step``,
        ``subset``, ``m_coherence``, ``m_coherence_stderr`` and more; None where a value is missing.

    Raises:
        InputError: no results file, or no such checkpoint, layer, subset, column or grouping.

    Example:
        ``analyze.show("half_noise.h5", layers=True, sort="m_coherence")[0]["layer"]``
    """
    tree = tree_of(results)
    layers = layers or by is not None or checkpoint is not None or bool(layer)
    tree = group_by(tree, by or "layer")
    rows = table.layer_rows(tree, checkpoint) if layers else table.network_rows(tree)
    for column, globs in (("layer", layer), ("subset", subset), ("checkpoint", checkpoints)):
        rows = table.select(rows, column, several(globs))
    return rows if sort is None else table.sort(rows, sort)


def to_csv(results: str | Path | xr.DataTree, path: str | Path | None = None, **chosen: Any) -> str:
    """The rows of ``show`` as comma-separated values, as ``analyze show --csv`` prints them.

    Args:
        results: A results file, or the tree of one.
        path: Where they are written, too; a table with the same columns is replaced.
        chosen: Which rows: the keywords of ``show``.

    Returns:
        A header and a line for each row; missing values are empty.

    Raises:
        InputError: as ``show``; or the file cannot be written, or is of another kind.

    Example:
        ``analyze.to_csv("half_noise.h5", "layers.csv", layers=True)``
    """
    rows = show(results, **chosen)
    if path is not None:
        table.write_csv(rows, Path(path))
    return table.as_csv(rows)
