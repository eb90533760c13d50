"""The table of a figure's numbers, as rows for ``parts.html``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import xarray as xr

from analyze.figures.names import plain
from analyze.figures.numbers import INDEX, Numbers
from analyze.pages.text import NOTHING, rounded, sort_key

MOST_ROWS = 120  # of a table below a figure


@dataclass(frozen=True)
class Row:
    """Its heads, one for each dimension of the rows, with places, and its cells.

    A cell is a value and its standard error as texts, and a key to sort by.
    """

    heads: list[tuple[str, int]]
    cells: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table with a group of columns for each quantity; ``count`` rows there are in all."""

    heads: list[str]  # of the first columns
    groups: list[tuple[str, list[str]]]  # a quantity, and the names of its columns; [""] for one
    rows: list[Row]
    count: int


def table_of(numbers: Numbers, places: Sequence[str], most: int | None = MOST_ROWS) -> Table:
    """The first rows of the numbers; layers outside, checkpoints inside, as in the figure.

    Args:
        numbers: Quantities over the same layers and checkpoints.
        places: The checkpoints in words.
        most: Rows at most; None for all.
    """
    first = numbers[0].values
    index = [dim for dim in INDEX if dim in first.dims]
    sizes = [first.sizes[dim] for dim in index]
    columns = [_columns(one.values, index, one.beside) for one in numbers]
    errors = [None if q.errors is None else _columns(q.errors, index, q.beside) for q in numbers]
    names = {"checkpoint": places}
    if "layer" in index:
        names["layer"] = [plain(str(name)) for name in first["layer"].values]
    rows = []
    for place in islice(product(*map(range, sizes)), most):
        cells = []
        for value, error in zip(columns, errors, strict=True):
            spread = [np.nan] * len(value[place]) if error is None else error[place]
            cells += [_cell(float(v), float(e)) for v, e in zip(value[place], spread, strict=True)]
        rows.append(Row([(names[d][k], k) for d, k in zip(index, place, strict=True)], cells))
    groups = [
        (q.name, [plain(str(c)) for c in q.values[q.beside].values] if q.beside else [""])
        for q in numbers
    ]
    return Table(index, groups, rows, int(np.prod(sizes)))


def _columns(values: xr.DataArray, index: Sequence[str], beside: str | None) -> np.ndarray:
    """The array with its rows' dimensions first, and one for its columns."""
    if beside is None:
        return values.transpose(*index).values[..., None]
    return values.transpose(*index, beside).values


def _cell(value: float, error: float) -> tuple[str, str, str]:
    """A value and, where it has one, its standard error, and the key to sort by."""
    if not np.isfinite(value):
        return NOTHING, "", ""
    spread = f"\N{PLUS-MINUS SIGN} {rounded(error)}" if np.isfinite(error) else ""
    return rounded(value), spread, sort_key(value)
