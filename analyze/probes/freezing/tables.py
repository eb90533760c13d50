"""Tables of labels in CSV, TSV, lists of words, and JSON by columns, by records or by id.

A table is a dictionary of columns. The column ``""`` has no name: it is the index that pandas
writes, or the keys of an object. Tables that can be understood in two ways raise ``ValueError``.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UNNAMED, VALUE = "", "value"
DELIMITERS = ",;\t|"
# Byte order marks, longer ones first: a mark of UTF-32 begins with one of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip
TRUTH = {"true": True, "false": False, "yes": True, "no": False}


def _text_of(path: Path) -> str:
    """The text of a file, in UTF-8 or in the encoding of its byte order mark."""
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    text = content.decode(encoding)
    if "\0" in text:
        raise ValueError("the text is not in UTF-8: save it as UTF-8")
    return text


def read_csv(path: Path) -> Any:
    """Columns by name, or one array for a single column without a header.

    The separator is whichever of comma, semicolon, tab and bar splits all lines alike.
    """
    lines = _text_of(path).splitlines(keepends=True)
    rows = _rows(lines, "\t" if path.suffix.lower() == ".tsv" else DELIMITERS)
    if not any(map(_is_value, rows[0])) or rows[0][0] == UNNAMED != "".join(rows[0]):
        return _columns(rows[0], rows[1:])
    if len(rows[0]) == 1:
        return typed([row[0] for row in rows])
    if all(map(_is_value, rows[0])):
        raise ValueError(
            f"{len(rows[0])} columns and no header: write a first line such as id,label"
        )
    return _columns(rows[0], rows[1:])


def read_words(path: Path) -> np.ndarray:
    """A list of words, one a line, or all in one line with spaces or commas between them."""
    lines = [re.split(r"[\s,;]+", line.strip(" \t\r\n,;")) for line in _text_of(path).splitlines()
             if line.strip() and not line.startswith("#")]  # fmt: skip
    if len(lines) > 1 and max(map(len, lines)) > 1:
        raise ValueError("several words in a line: give one in each, or a .csv with a header")
    return typed([word for line in lines for word in line]) if lines else np.array([], np.int64)


def read_json(path: Path) -> Any:
    """The value in a JSON file; a key that an object repeats is refused."""
    return json.loads(_text_of(path), object_pairs_hook=_object)


def read_json_lines(path: Path) -> Any:
    """The JSON values in a file, one a line."""
    lines = _text_of(path).splitlines()
    return [json.loads(line, object_pairs_hook=_object) for line in lines if line.strip()]


def as_table(values: Any) -> Any:
    """A table in any shape as a dictionary of columns; a list as one array.

    Shapes: columns (``{"label": [3, 5]}``), records (``[{"id": 17, "label": 3}]``), objects by id
    (``{"17": 3}``, ``{"17": {"label": 3}}``), and what pandas writes (``{"label": {"17": 3}}``, or
    ``columns``, ``index`` and ``data``).
    """
    if isinstance(values, np.ndarray) and values.dtype.names:
        return {name: values[name] for name in values.dtype.names}
    if isinstance(values, Mapping):
        return _by_columns(values)
    if isinstance(values, list) and values and all(isinstance(v, Mapping) for v in values):
        names = list(values[0])
        if odd := [k for k, v in enumerate(values) if v.keys() != values[0].keys()]:
            raise ValueError(f"record {odd[0] + 1} has other keys than the first one")
        return {str(name): _array_of([v[name] for v in values]) for name in names}
    return _array_of(values)


def as_array(values: Any) -> np.ndarray:
    """An array, or the values of a tensor as one."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _array_of(values: Any) -> np.ndarray:
    """An array; words that are all numbers or truth values become those."""
    if isinstance(values, list) and values and all(isinstance(v, str) for v in values):
        return typed(values)
    return as_array(values)


def is_whole(values: np.ndarray) -> bool:
    """Whether all values are integers of 64 bits, such floats, or truth values."""
    if values.dtype.kind == "u":
        return bool((values <= np.iinfo(np.int64).max).all())
    if values.dtype.kind != "f":
        return values.dtype.kind in "ib"
    return bool((np.abs(values) < 2.0**63).all() and (values == np.round(values)).all())


def typed(words: Sequence[str]) -> np.ndarray:
    """Words as truth values, integers or floats, whichever all of them are; else as words."""
    words = [word.strip() for word in words]
    if {word.lower() for word in words} <= TRUTH.keys():
        return np.array([TRUTH[word.lower()] for word in words])
    for kind in (int, float):
        if any("_" in word for word in words):  # Python reads 1_2 as 12
            break
        try:
            return np.array([kind(word) for word in words])
        except (ValueError, OverflowError):
            continue
    return np.array(words)


def _by_columns(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The columns of an object: by name, as pandas splits them, or values by id."""
    names = {str(name): value for name, value in values.items()}
    if len(names) != len(values):
        raise ValueError("two keys that read the same")
    if names.keys() == {"columns", "index", "data"}:
        columns = zip(map(str, names["columns"]), zip(*names["data"], strict=True), strict=True)
        index = {UNNAMED: _array_of(names["index"])}
        return index | {name: _array_of(list(column)) for name, column in columns}
    if names and all(isinstance(v, Mapping) for v in names.values()):
        return _nested(names)
    if names and all(np.ndim(_array_of(v)) == 0 for v in names.values()):
        return {UNNAMED: typed(list(names)), VALUE: _array_of([_plain(v) for v in names.values()])}
    return {name: _array_of(value) for name, value in names.items()}


def _nested(names: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """The columns of objects in an object: columns by id, or records by id."""
    first = next(iter(names.values()))
    if any(inner.keys() != first.keys() for inner in names.values()):
        raise ValueError("the objects in the object do not have the same keys")
    outer, inner = typed(list(names)), typed(list(map(str, first)))
    if outer.dtype.kind == "i" and inner.dtype.kind == "i":
        raise ValueError("the keys inside and outside are numbers: either may be the ids")
    if outer.dtype.kind == "i":
        return {UNNAMED: outer} | {
            str(key): _array_of([record[key] for record in names.values()]) for key in first
        }
    return {UNNAMED: inner} | {
        name: _array_of([column[key] for key in first]) for name, column in names.items()
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _rows(lines: list[str], delimiters: str) -> list[list[str]]:
    """The cells of all lines, by the only separator that makes several columns of all of them."""
    if lines and lines[0].startswith("#"):  # numpy.savetxt's header
        lines = [lines[0].lstrip("# "), *lines[1:]]
    candidates = {d: rows for d in delimiters if (rows := _cells(lines, d)) is not None}
    if not any(candidates.values()):
        raise ValueError("quotes that do not close" if lines and not candidates else "no lines")
    several = [d for d, rows in candidates.items() if len(rows[-1]) > 1 and _even(rows)]
    if len(several) > 1:
        raise ValueError(f"columns by {several[0]!r} and by {several[1]!r} as well")
    rows = candidates[several[0]] if several else next(iter(candidates.values()))
    if not several and any(len(row) > 1 for row in rows):
        odd = next(k for k, row in enumerate(rows) if len(row) != len(rows[0]))
        raise ValueError(f"line {odd + 1} has {len(rows[odd])} cells, the first {len(rows[0])}")
    return rows


def _cells(lines: list[str], delimiter: str) -> list[list[str]] | None:
    """The cells of all lines that are not empty; None where quotes do not fit the delimiter."""
    read = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return [[cell.strip() for cell in row] for row in read if row]
    except csv.Error:
        return None


def _even(rows: list[list[str]]) -> bool:
    """Whether all rows have one length; the header that R writes has one cell less."""
    lengths = set(map(len, rows[1:] or rows))
    return len(lengths) == 1 and len(rows[-1]) - len(rows[0]) in (0, 1)


def _columns(header: list[str], rows: list[list[str]]) -> dict[str, np.ndarray]:
    if rows and len(rows[0]) == len(header) + 1:  # R writes no name above its index
        header = [UNNAMED, *header]
    names = [UNNAMED if re.fullmatch(r"Unnamed: \d+", name) else name for name in header]
    if repeated := _repeated(names):
        raise ValueError(f"two columns {repeated[0]!r}")
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return {name: typed(list(c)) for name, c in zip(names, columns, strict=True)}


def _is_value(cell: str) -> bool:
    """Whether a cell is a number or a truth value, which no header is."""
    return typed([cell]).dtype.kind in "biuf"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated([key for key, _ in pairs]):
        raise ValueError(f"the key {repeated[0]!r} twice")
    return dict(pairs)


def _repeated(names: list[str]) -> list[str]:
    """Names that come a second time."""
    return [name for name, times in Counter(names).items() if times > 1]
