"""Tables of labels brought to the order of the examples, by a column of ids or positions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, listed
from analyze.probes.freezing.data import Examples
from analyze.probes.freezing.sources import Source
from analyze.probes.freezing.tables import UNNAMED, is_whole

INDEX_NAMES = (
    "id", "ids", "index", "indices", "idx", "example_id", "sample_id", "image_id", "example_index",
    "sample_index", "position", "row",
)  # fmt: skip
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "img")
DEPTH = 3  # folders above a file that a table may name
KNOWN_COLUMNS = ("cleanlab", "cifar_n")  # kinds of files whose columns have fixed names
LONGEST = 18  # digits in a position
EITHER = ("by=id", "by=position")


def aligned(values: Any, source: Source, examples: Examples) -> tuple[Any, list[str]]:
    """The columns of a table in the order of the examples, and sentences on what was moved.

    The index of the rows is a column without a name, as pandas writes it, one called ``id``,
    ``index`` or alike, or that of ``?id=NAME``; it is left out. It holds the ids of the examples,
    their positions from 0 or the names of their files: ``?by=id`` and ``?by=position`` decide,
    ``?by=order`` takes the rows as they stand. An array is returned as it is.

    Raises:
        InputError: ids that are missing, unknown, repeated or no numbers; rows that differ between
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
            problem = f"{len(rows)} {_called(name)} and {len(column)} of {key!r}"
            raise source.wrong(problem, "as many of each")
    order = _order(rows, name, source, examples)
    lines = others.pop(UNNAMED, None)
    if (
        lines is not None
        and "id" not in source.options
        and not (_counts_lines(lines) or _counts_lines(lines[order]))
    ):
        problem = f"{_called(name)} and a first column without a name, which differ"
        raise source.wrong(problem, "one that says whose the rows are", f"id={name}")
    moved = int((order != np.arange(count)).sum())
    fact = f"rows taken by {_called(name)}, {moved} of {count} in another place than they stand"
    return {key: column[order] for key, column in others.items()}, [fact] if moved else []


def _order(rows: np.ndarray, name: str, source: Source, examples: Examples) -> np.ndarray:
    """The row of each example ``[N]``; the index is read as ids or as positions."""
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
        problem = f"{_called(name)} that are ids of the data as well as positions in them"
        raise source.wrong(problem, "rows that mean one of the two", *EITHER)
    return orders[0]


def _check_no_other_order(
    values: Mapping[str, Any], name: str | None, source: Source, count: int
) -> None:
    """Refuse rows that would stay in place beside a column of all positions in another order.

    The names of such columns, ``image`` or ``file``, do not tell what they hold.
    """
    several = source.column is None and source.kind not in KNOWN_COLUMNS
    if several or "id" in source.options:
        return  # a later check asks which column is meant, or the user has named the index
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
    """A column of whole numbers, or those in its words: 17 of ``17.png`` and of ``cat_2/17.png``.

    Of several numbers in a word the last one counts that differs from word to word.
    """
    cells = np.asarray(column)
    if cells.ndim != 1 or cells.dtype.kind not in "iuU":
        return None
    if cells.dtype.kind != "U":
        return cells
    digits_of = [re.findall("[0-9]+", word)[::-1] for word in cells.tolist()]
    places = [
        np.array([int(digits) for digits in place])
        for place in zip(*digits_of, strict=False)  # those that all words have
        if all(len(digits) < LONGEST for digits in place)
    ]
    return next((n for n in places if len(np.unique(n)) == len(n)), places[0] if places else None)


def _as_positions(values: Any, source: Source, examples: Examples) -> np.ndarray:
    """A column with names of files as positions, and words of ``?id=`` as the numbers in them."""
    cells, files = np.asarray(values), examples.files
    if "id" in source.options and not files and (numbers := _numbers_of(cells)) is not None:
        return numbers
    if not files or cells.ndim != 1 or cells.dtype.kind != "U":
        return cells
    try:
        return _positions_of(cells.tolist(), files)
    except ValueError as error:
        raise source.wrong(str(error), "the names of the data's files", "by=order") from error


def _positions_of(words: Sequence[str], files: Sequence[str]) -> np.ndarray:
    """The positions of files that are named by path or its end; else a ValueError says why."""
    places: dict[tuple[str, ...], list[int]] = {}
    for k, file in enumerate(files):
        parts = _parts(file)
        for depth in {*range(1, DEPTH + 1), len(parts)} & {*range(1, len(parts) + 1)}:
            places.setdefault(parts[-depth:], []).append(k)
    matches = [places.get(_parts(word), []) for word in words]
    for count, what in ((0, "no file of the data"), (2, "several files of the data")):
        odd = [w for w, rows in zip(words, matches, strict=True) if min(len(rows), 2) == count]
        if odd:
            raise ValueError(f"{what} for {listed(odd, 4)}")
    return np.array([rows[0] for rows in matches], np.int64)


def _parts(path: str) -> tuple[str, ...]:
    return PurePath(path.replace("\\", "/")).parts


def listed_rows(rows: np.ndarray, source: Source, examples: Examples) -> np.ndarray:
    """Positions of listed examples; the list may hold ids where the data have them."""
    if examples.ids is None or source.by in ("position", "order"):
        return rows
    position = {int(label): k for k, label in enumerate(np.asarray(examples.ids).tolist())}
    if not all(row in position for row in rows.tolist()):
        return rows
    by_id = np.array([position[row] for row in rows.tolist()], np.int64)
    in_range = bool(((rows >= 0) & (rows < len(examples))).all())
    if source.by is None and in_range and (by_id != rows).any():
        problem = "numbers that are ids of the data as well as positions in them"
        raise source.wrong(problem, "a list of one of the two", *EITHER)
    return by_id


def only_list(values: Any, source: Source, examples: Examples) -> Any:
    """The column of a table that lists examples; a column that counts its lines is left out."""
    if not isinstance(values, Mapping):
        return _as_positions(values, source, examples)
    if len(values) < 2 or source.column is not None:
        return {name: _as_positions(v, source, examples) for name, v in values.items()}
    named = _index_names(values, examples)
    if len(named) == 1:
        return _as_positions(values[named[0]], source, examples)
    if UNNAMED in values and not _counts_lines(values[UNNAMED]):
        problem = "a first column without a name that does not count its own lines"
        raise source.wrong(problem, "one list of examples", otherwise="mask")
    return {key: column for key, column in values.items() if key != UNNAMED}


def _index_names(values: Mapping[str, Any], examples: Examples) -> list[str]:
    """The columns whose names are those of an index."""
    known = (*INDEX_NAMES, *FILE_COLUMNS) if examples.files else INDEX_NAMES
    return [name for name in values if name.strip().lower() in known]


def _index_of(values: Mapping[str, Any], source: Source, examples: Examples) -> str | None:
    """The name of the column with ids, positions or files; None for rows in order."""
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
        problem = f"columns {listed(named)}, any of which may say whose the rows are"
        raise source.wrong(problem, "one of them", f"id={named[0]}")
    return named[0] if named else UNNAMED if UNNAMED in values else None


def _whole_numbers(rows: np.ndarray, name: str, source: Source) -> np.ndarray:
    """The index as distinct integers, or its refusal."""
    if rows.ndim != 1 or rows.dtype.kind == "b" or not is_whole(rows):
        cells = rows.ravel().tolist()
        odd = [cell for cell in cells if not str(cell).removesuffix(".0").isdecimal()] or cells
        problem = f"{_called(name)} such as {odd[0]!r}" if odd else f"no {_called(name)}"
        expected = "whole numbers: ids or positions of examples"
        raise source.wrong(problem, expected, _sure_option(rows, name))
    rows = rows.astype(np.int64)
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        repeated = listed([str(row) for row in unique[counts > 1]], 4)
        raise source.wrong(f"{_called(name)} {repeated} more than once", "one row for each example")
    return rows


def _no_fit(rows: np.ndarray, name: str, source: Source, ids: np.ndarray) -> InputError:
    """The refusal of an index with ids that are missing or unknown."""
    odd = {"missing": np.setdiff1d(ids, rows), "unknown": np.setdiff1d(rows, ids)}
    problems = [
        f"{counted(len(labels), 'id')} {what} ({listed([str(label) for label in labels], 4)})"
        for what, labels in odd.items()
        if len(labels)
    ]
    span = f", {ids.min()} to {ids.max()}" if len(ids) else ""
    return source.wrong(
        f"{counted(len(rows), 'row')} by {_called(name)}, {' and '.join(problems)},",
        f"the {len(ids)} of the data{span}, once each",
        "by=order" if len(rows) == len(ids) and _rises(rows) else "",
    )


def _sure_option(words: np.ndarray, name: str) -> str:
    """The option to type for ids that are no numbers; empty where it could swap rows."""
    numbers = _numbers_of(words)
    if numbers is None:
        return ""
    if np.array_equal(np.sort(numbers), np.arange(len(numbers))):
        return f"id={name}"
    return "by=order" if _rises(numbers) else ""


def _rises(numbers: np.ndarray) -> bool:
    """Whether each number is larger than the one before it."""
    return bool((np.diff(numbers) > 0).all())


def _counts_lines(values: Any) -> bool:
    """Whether a column is 0, 1, 2, ..., the numbers of its lines."""
    return np.array_equal(np.asarray(values), np.arange(len(values)))


def _called(name: str) -> str:
    return f"ids of column {name!r}" if name else "ids of the first column, which has no name"
