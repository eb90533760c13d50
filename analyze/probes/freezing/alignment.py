"""Rows of a table brought to the order of the examples, by the column that says whose they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, listed
from analyze.probes.freezing.data import Examples
from analyze.probes.freezing.file_names import COLUMNS, positions
from analyze.probes.freezing.sources import Source
from analyze.probes.freezing.tables import UNNAMED, is_whole

INDEX_NAMES = (
    "id", "ids", "index", "indices", "idx", "example_id", "sample_id", "image_id", "example_index",
    "sample_index", "position", "row",
)  # fmt: skip
KNOWN_COLUMNS = ("cleanlab", "cifar_n")  # kinds whose columns have known names
LONGEST = 18  # digits of a position
EITHER = ("by=id", "by=position")


def aligned(values: Any, source: Source, examples: Examples) -> tuple[Any, list[str]]:
    """The columns of a table in the order of the examples, and in words what was done for that.

    What says whose the rows are is a column without a name, as pandas writes it, one called ``id``,
    ``index`` or alike, or the one of ``?id=NAME``; it is left out. It holds the examples' own ids,
    their positions from 0 or the names of their files: ``?by=id`` and ``?by=position`` say which,
    ``?by=order`` takes the rows as they stand. An array stays what it is.

    Raises:
        InputError: ids that are missing, unknown, twice or no numbers; rows that differ between
            reading them as ids and as positions; or rows without ids beside a column that has every
            position once, in another order.
    """
    by = source.by
    if not isinstance(values, Mapping):
        return values, []
    count, name = len(examples), _index_of(values, source, examples)
    if by is None:
        _check_no_other_order(values, name, source, count)
    if name is None or by == "order":
        return {key: column for key, column in values.items() if key != name}, []
    rows = _whole_numbers(_as_positions(values[name], source, examples), name, source)
    others = {key: np.asarray(column) for key, column in values.items() if key != name}
    for key, column in others.items():
        if len(np.atleast_1d(column)) != len(rows):
            found = f"{len(rows)} {_called(name)} and {len(column)} of {key!r}"
            raise source.wrong(found, "as many of each")
    order = _order(rows, name, source, examples)
    lines = others.pop(UNNAMED, None)
    if (
        lines is not None
        and "id" not in source.options
        and not (_counts_lines(lines) or _counts_lines(lines[order]))
    ):
        found = f"{_called(name)} and a first column without a name, which differ"
        raise source.wrong(found, "one that says whose the rows are", f"id={name}")
    moved = int((order != np.arange(count)).sum())
    how = f"rows taken by {_called(name)}, {moved} of {count} in another place than they stand"
    return {key: column[order] for key, column in others.items()}, [how] if moved else []


def _order(rows: np.ndarray, name: str, source: Source, examples: Examples) -> np.ndarray:
    """Which row is each example's, read as ids or as positions."""
    meanings = {"position": np.arange(len(examples))}
    if examples.ids is not None:
        meanings["id"] = np.asarray(examples.ids)
    if source.by:
        meanings = {m: labels for m, labels in meanings.items() if m == source.by}
    orders = [
        np.argsort(rows)[np.argsort(np.argsort(labels))]
        for labels in meanings.values()
        if len(labels) == len(rows) and (np.sort(labels) == np.sort(rows)).all()
    ]
    if not orders:
        raise _no_fit(rows, name, source, meanings.get("id", np.arange(len(examples))))
    if any((order != orders[0]).any() for order in orders):
        found = f"{_called(name)} that are ids of the data as well as positions in them"
        raise source.wrong(found, "rows that mean one of the two", *EITHER)
    return orders[0]


def _check_no_other_order(
    values: Mapping[str, Any], name: str | None, source: Source, count: int
) -> None:
    """Refuse rows that would stay in place beside a column that has each position elsewhere.

    Such as ``image`` or ``file``, whose names tell nothing for sure.
    """
    several = source.column is None and source.kind not in KNOWN_COLUMNS
    if several or "id" in source.options:
        return  # which column is meant is asked for later, or whose the rows are is said
    if name is not None and (name != UNNAMED or not _counts_lines(values[name])):
        return
    for key, column in values.items():
        numbers = _numbers_of(column)
        if key in (name, source.column) or numbers is None or not len(numbers):
            continue
        first = numbers.min()
        if np.array_equal(np.sort(numbers), first + np.arange(count)) and not _rises(numbers):
            raise source.wrong(
                f"column {key!r}, which counts the examples from {first} in another order than the "
                "rows stand,",
                "rows in the order of the data, or positions from 0",
                *([] if first else [f"id={key}"]),
                "by=order",
            )


def _numbers_of(column: Any) -> np.ndarray | None:
    """A column of whole numbers, or the number in each of its words: 17 of ``17.png``."""
    cells = np.asarray(column)
    if cells.ndim != 1 or cells.dtype.kind not in "iuU":
        return None
    if cells.dtype.kind != "U":
        return cells
    digits_of = [re.findall("[0-9]+", word) for word in cells.tolist()]
    good = all(len(digits) == 1 and len(digits[0]) < LONGEST for digits in digits_of)
    return np.array([int(digits[0]) for digits in digits_of]) if good and digits_of else None


def _as_positions(values: Any, source: Source, examples: Examples) -> np.ndarray:
    """Names of files as positions, or the numbers in what ``?id=`` names; else as it is."""
    cells, files = np.asarray(values), examples.files
    if "id" in source.options and not files and (numbers := _numbers_of(cells)) is not None:
        return numbers
    if not files or cells.ndim != 1 or cells.dtype.kind != "U":
        return cells
    try:
        return positions(cells.tolist(), files)
    except ValueError as error:
        raise source.wrong(str(error), "the names of the data's files", "by=order") from error


def listed_rows(rows: np.ndarray, source: Source, examples: Examples) -> np.ndarray:
    """Listed examples as positions; where the data have ids, too, the list is of one of the two."""
    if examples.ids is None or source.by in ("position", "order"):
        return rows
    place = {int(label): k for k, label in enumerate(np.asarray(examples.ids).tolist())}
    if not all(row in place for row in rows.tolist()):
        return rows
    by_id = np.array([place[row] for row in rows.tolist()], np.int64)
    in_range = bool(((rows >= 0) & (rows < len(examples))).all())
    if source.by is None and in_range and (by_id != rows).any():
        found = "numbers that are ids of the data as well as positions in them"
        raise source.wrong(found, "a list of one of the two", *EITHER)
    return by_id


def only_list(values: Any, source: Source, examples: Examples) -> Any:
    """The one column of a table that lists examples; one that counts its lines is none."""
    if not isinstance(values, Mapping):
        return _as_positions(values, source, examples)
    if len(values) < 2 or source.column is not None:
        return {name: _as_positions(v, source, examples) for name, v in values.items()}
    named = _index_names(values, examples)
    if len(named) == 1:
        return _as_positions(values[named[0]], source, examples)
    if UNNAMED in values and not _counts_lines(values[UNNAMED]):
        found = "a first column without a name that does not count its own lines"
        raise source.wrong(found, "one list of examples", otherwise="mask")
    return {key: column for key, column in values.items() if key != UNNAMED}


def _index_names(values: Mapping[str, Any], examples: Examples) -> list[str]:
    """The columns whose names say that they tell whose the rows are."""
    known = (*INDEX_NAMES, *COLUMNS) if examples.files else INDEX_NAMES
    return [name for name in values if name.strip().lower() in known]


def _index_of(values: Mapping[str, Any], source: Source, examples: Examples) -> str | None:
    """The column that says whose the rows are; none where there is but one."""
    if "id" in source.options:
        chosen = str(source.options["id"])
        if chosen not in values:
            known = f"?id= one of {listed(list(values))}"
            raise source.wrong(f"no column {chosen!r}", known, "id=NAME")
        return chosen
    if len(values) < 2:
        return None
    named = [name for name in _index_names(values, examples) if name != source.column]
    if len(named) > 1:
        found = f"columns {listed(named)}, any of which may say whose the rows are"
        raise source.wrong(found, "one of them", f"id={named[0]}")
    return named[0] if named else UNNAMED if UNNAMED in values else None


def _whole_numbers(rows: np.ndarray, name: str, source: Source) -> np.ndarray:
    if rows.ndim != 1 or rows.dtype.kind == "b" or not is_whole(rows):
        odd = rows.ravel()[:1].tolist()
        found = f"{_called(name)} such as {odd[0]!r}" if odd else f"no {_called(name)}"
        expected = "whole numbers: ids or positions of examples"
        raise source.wrong(found, expected, _sure_option(rows, name))
    rows = rows.astype(np.int64)
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        twice = listed([str(row) for row in unique[counts > 1]], 4)
        raise source.wrong(f"{_called(name)} {twice} more than once", "one row for each example")
    return rows


def _no_fit(rows: np.ndarray, name: str, source: Source, ids: np.ndarray) -> InputError:
    """Which ids are missing, and which are not known."""
    odd = {"missing": np.setdiff1d(ids, rows), "unknown": np.setdiff1d(rows, ids)}
    said = [
        f"{counted(len(some), 'id')} {what} ({listed([str(row) for row in some], 4)})"
        for what, some in odd.items()
        if len(some)
    ]
    span = f", {ids.min()} to {ids.max()}" if len(ids) else ""
    return source.wrong(
        f"{counted(len(rows), 'row')} by {_called(name)}, {' and '.join(said)},",
        f"the {len(ids)} of the data{span}, once each",
        "by=order" if len(rows) == len(ids) and _rises(rows) else "",
    )


def _sure_option(words: np.ndarray, name: str) -> str:
    """What to type for ids that are no numbers; nothing where rows would be another's."""
    numbers = _numbers_of(words)
    if numbers is None:
        return ""
    if np.array_equal(np.sort(numbers), np.arange(len(numbers))):
        return f"id={name}"
    return "by=order" if _rises(numbers) else ""


def _rises(numbers: np.ndarray) -> bool:
    """Whether each is larger than the one before."""
    return bool((np.diff(numbers) > 0).all())


def _counts_lines(values: Any) -> bool:
    """Whether a column is 0, 1, 2, ...: the numbers of its own lines."""
    return np.array_equal(np.asarray(values), np.arange(len(values)))


def _called(name: str) -> str:
    return f"ids of column {name!r}" if name else "ids of the first column, which has no name"
