"""Rows of a table brought to the order of the examples, by the column that says whose they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, listed
from analyze.probes.freezing.file_names import COLUMNS, positions
from analyze.probes.freezing.tables import UNNAMED
from analyze.specs.spec import Spec

INDEX_NAMES = (
    "id", "ids", "index", "indices", "idx", "example_id", "sample_id", "image_id", "example_index",
    "sample_index", "position", "row",
)  # fmt: skip
BY = ("id", "position", "order")
BY_THEIR_COLUMNS = ("cleanlab:", "cifar_n:")  # kinds whose columns have known names
LONGEST = 18  # digits of a position


def aligned(
    values: Any, spec: Spec, count: int, ids: np.ndarray | None, files: Sequence[str] = ()
) -> tuple[Any, list[str]]:
    """The columns of a table in the order of the examples, without the one that gave it.

    That is the column without a name that pandas writes, one called ``id``, ``index`` or alike, or
    the one that ``?id=NAME`` names. It holds the examples' own ids, where they have any, or their
    positions from 0; ``?by=id`` and ``?by=position`` say which, ``?by=order`` takes the rows as
    they stand. Or it holds the names of their files.

    Args:
        values: An array, which stays what it is, or columns by name.
        spec: Of the noise, for its arguments and for messages.
        count: How many examples there are.
        ids: Their own ids; None where they have none.
        files: Their paths, where they are files.

    Returns:
        The columns, and in words what was done.

    Raises:
        InputError: ids that are missing, unknown, twice or no numbers; rows that differ between
            reading them as ids and as positions; or rows without ids beside a column that has every
            position once, in another order.
    """
    by = _by(spec)
    name = _index_of(values, spec, bool(files)) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping) and by is None:
        _check_no_other_order(values, name, spec, count)
    if name is None or by == "order":
        return values if name is None else {k: v for k, v in values.items() if k != name}, []
    rows = _whole_numbers(_as_positions(values[name], files, spec), name, spec)
    others = {key: np.asarray(v) for key, v in values.items() if key != name}
    for key, column in others.items():
        if len(np.atleast_1d(column)) != len(rows):
            raise wrong(spec, f"{len(rows)} {_called(name)} and {len(column)} of {key!r}",
                        "as many of each")  # fmt: skip
    order = _order(rows, name, spec, count, ids)
    moved = int((order != np.arange(count)).sum())
    lines = others.pop(UNNAMED, None)
    if (
        lines is not None
        and "id" not in spec.arguments
        and not (_counts_lines(lines) or _counts_lines(lines[order]))
    ):
        raise wrong(spec, f"{_called(name)} and a first column without a name, which differ",
                    "one that says whose the rows are", options=f"id={name}")  # fmt: skip
    how = f"rows taken by {_called(name)}, {moved} of {count} in another place than they stand"
    return {key: column[order] for key, column in others.items()}, [how] if moved else []


def _order(
    rows: np.ndarray, name: str, spec: Spec, count: int, ids: np.ndarray | None
) -> np.ndarray:
    """Which row is each example's, read as ids or as positions."""
    by = _by(spec)
    meanings = {"position": np.arange(count)} | ({} if ids is None else {"id": np.asarray(ids)})
    if by is not None:
        meanings = {by: meanings[by]} if by in meanings else {}
    orders = {m: np.argsort(rows)[np.argsort(np.argsort(own))] for m, own in meanings.items()
              if len(own) == len(rows) and (np.sort(own) == np.sort(rows)).all()}  # fmt: skip
    if not orders:
        raise _no_fit(rows, name, spec, meanings.get("id", np.arange(count)))
    first, *more = orders
    if any((orders[m] != orders[first]).any() for m in more):
        raise wrong(spec, f"{_called(name)} that are ids of the data as well as positions in them",
                    "rows that mean one of the two", options=("by=id", "by=position"))  # fmt: skip
    return orders[first]


def _check_no_other_order(
    values: Mapping[str, Any], name: str | None, spec: Spec, count: int
) -> None:
    """Rows that would stay in place, beside a column that has each position elsewhere.

    Raises:
        InputError: such as ``image`` or ``file``, whose names tell nothing for sure.
    """
    chosen = spec.arguments.get("column")
    several = chosen is None and not spec.name.startswith(BY_THEIR_COLUMNS)
    if several or "id" in spec.arguments:
        return  # which column is meant is asked for later, or whose the rows are is said
    if (name and name != UNNAMED) or (name == UNNAMED and not _counts_lines(values[name])):
        return
    for key, column in values.items():
        numbers = _numbers_of(column)
        if key in (name, str(chosen)) or numbers is None or not len(numbers):
            continue
        first = numbers.min()
        if np.array_equal(np.sort(numbers), first + np.arange(count)) and not _rises(numbers):
            raise wrong(
                spec, f"column {key!r}, which counts the examples from {first} in another order"
                " than the rows stand,", "rows in the order of the data, or positions from 0",
                options=("by=order",) if first else (f"id={key}", "by=order"),
            )  # fmt: skip


def _numbers_of(column: Any) -> np.ndarray | None:
    """A column of whole numbers, or the number in each of its words: 17 of ``17.png``."""
    cells = np.asarray(column)
    if cells.ndim != 1 or cells.dtype.kind not in "iuU":
        return None
    if cells.dtype.kind != "U":
        return cells
    found = [re.findall("[0-9]+", word) for word in cells.tolist()]
    good = all(len(digits) == 1 and len(digits[0]) < LONGEST for digits in found)
    return np.array([int(digits[0]) for digits in found]) if good and found else None


def _as_positions(values: Any, files: Sequence[str], spec: Spec) -> np.ndarray:
    """Names of files as positions, or the numbers in what ``?id=`` names; else as it is."""
    found = np.asarray(values)
    if "id" in spec.arguments and not files and (numbers := _numbers_of(found)) is not None:
        return numbers
    if not files or found.ndim != 1 or found.dtype.kind != "U":
        return found
    try:
        return positions(found.tolist(), files)
    except ValueError as error:
        raise wrong(
            spec, str(error), "the names of the data's files", options="by=order"
        ) from error


def listed_rows(rows: np.ndarray, spec: Spec, count: int, ids: np.ndarray | None) -> np.ndarray:
    """Listed examples as positions, where the data have ids of their own, too.

    Raises:
        InputError: what is listed may be ids or positions, and they differ.
    """
    by = _by(spec)
    if ids is None or by in ("position", "order"):
        return rows
    positions = {int(one): k for k, one in enumerate(np.asarray(ids).tolist())}
    if not all(row in positions for row in rows.tolist()):
        return rows
    found = np.array([positions[row] for row in rows.tolist()], np.int64)
    in_range = bool(((rows >= 0) & (rows < count)).all())
    if by is None and in_range and (found != rows).any():
        raise wrong(spec, "numbers that are ids of the data as well as positions in them",
                    "a list of one of the two", options=("by=id", "by=position"))  # fmt: skip
    return found


def only_list(values: Any, spec: Spec, files: Sequence[str] = ()) -> Any:
    """The one column of a table that lists examples; one that counts its lines is none.

    Raises:
        InputError: a first column without a name that may be the list as well.
    """
    if not isinstance(values, Mapping):
        return _as_positions(values, files, spec)
    if len(values) < 2 or "column" in spec.arguments:
        return {name: _as_positions(column, files, spec) for name, column in values.items()}
    known = (*INDEX_NAMES, *COLUMNS) if files else INDEX_NAMES
    named = [name for name in values if name.strip().lower() in known]
    if len(named) == 1:
        return _as_positions(values[named[0]], files, spec)
    if UNNAMED in values and not _counts_lines(values[UNNAMED]):
        raise wrong(spec, "a first column without a name that does not count its own lines",
                    "one list of examples", otherwise="mask")  # fmt: skip
    return {key: column for key, column in values.items() if key != UNNAMED}


def wrong(
    spec: Spec, found: str, expected: str, otherwise: str = "", options: str | Sequence[str] = ""
) -> InputError:
    """The refusal of a file of label noise, with what to type.

    Args:
        spec: ``KIND:FILE``.
        found: What is in the file.
        expected: What the data ask for.
        otherwise: The kind that the file may be of instead.
        options: The argument of the spec that decides, or several, each of which does.
    """
    kind, _, place = spec.name.partition(":")
    other = f", or, if it is that, --noise {otherwise}:{place}" if otherwise else ""
    options = options or ("column=NAME" if "?column" in expected else "")
    choices = [
        _with_option(spec, one) for one in ([options] if isinstance(options, str) else options)
    ]
    value = (
        f"'{kind}:{place}{choices[0]}'" if options else f"{kind}:FILE with a file for these data"
    )
    value += "".join(f" or '{one}'" for one in choices[1:])
    return InputError(
        "the file of label noise does not fit the data",
        found=f"{found} in {place}",
        expected=expected,
        fix=f"--noise {value}{other}",
    )


def _with_option(spec: Spec, option: str) -> str:
    """An option with what the user has said besides: ``?column=label&id=image``."""
    said = [f"{k}={v}" for k, v in spec.arguments.items() if k != option.partition("=")[0]]
    return "?" + "&".join([*said, option])


def _by(spec: Spec) -> str | None:
    by = spec.arguments.get("by")
    if by is not None and by not in BY:
        raise wrong(spec, f"?by={by}", f"one of {', '.join(BY)}", options="by=id")
    return None if by is None else str(by)


def _index_of(values: Mapping[str, Any], spec: Spec, of_files: bool) -> str | None:
    """The column that says whose the rows are; none where there is but one."""
    chosen = spec.arguments.get("id")
    if chosen is not None:
        if str(chosen) not in values:
            raise wrong(spec, f"no column {str(chosen)!r}", f"?id= one of {listed(list(values))}",
                        options="id=NAME")  # fmt: skip
        return str(chosen)
    if len(values) < 2:
        return None
    known = (*INDEX_NAMES, *COLUMNS) if of_files else INDEX_NAMES
    named = [n for n in values if n.strip().lower() in known
             and n != str(spec.arguments.get("column"))]  # fmt: skip
    if len(named) > 1:
        raise wrong(spec, f"columns {listed(named)}, any of which may say whose the rows are",
                    "one of them", options=f"id={named[0]}")  # fmt: skip
    return named[0] if named else UNNAMED if UNNAMED in values else None


def _whole_numbers(values: Any, name: str, spec: Spec) -> np.ndarray:
    rows = np.asarray(values)
    numbers = rows.ndim == 1 and rows.dtype.kind in "iuf" and np.isfinite(rows).all()
    if not numbers or (rows != np.round(rows)).any():
        odd = rows.ravel()[:1].tolist()
        raise wrong(spec, f"{_called(name)} such as {odd[0]!r}" if odd else f"no {_called(name)}",
                    "whole numbers: ids or positions of examples",
                    options=_sure_option(rows, name))  # fmt: skip
    rows = rows.astype(np.int64)
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        twice = listed([str(one) for one in unique[counts > 1]], 4)
        raise wrong(spec, f"{_called(name)} {twice} more than once", "one row for each example")
    return rows


def _no_fit(rows: np.ndarray, name: str, spec: Spec, own: np.ndarray) -> InputError:
    """Which ids are missing, and which are not known."""
    missing, unknown = np.setdiff1d(own, rows), np.setdiff1d(rows, own)
    told = [
        f"{counted(len(some), 'id')} {what} ({listed([str(one) for one in some], 4)})"
        for some, what in ((missing, "missing"), (unknown, "unknown")) if len(some)
    ]  # fmt: skip
    span = f", {own.min()} to {own.max()}" if len(own) else ""
    return wrong(
        spec, f"{counted(len(rows), 'row')} by {_called(name)}, {' and '.join(told)},",
        f"the {len(own)} of the data{span}, once each",
        options="by=order" if len(rows) == len(own) and _rises(rows) else "",
    )  # fmt: skip


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
