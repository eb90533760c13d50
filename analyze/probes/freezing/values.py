"""Arrays in the files that people have: npy, npz, pt, safetensors, JSON, CSV, plain lists."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from analyze.errors import InputError


def read_values(path: Path) -> Any:
    """An array, or a dictionary of arrays by name; no pickle that can run code is opened.

    Raises:
        InputError: the file is missing, damaged, or of a kind that is not read.
    """
    if not path.is_file():
        raise InputError(
            "a file for the probes is missing",
            found=f"no file {path}",
            expected=f"a file of {', '.join(READERS)}",
            fix="give the path of the file, from here",
        )
    try:
        return _read(path)
    except InputError:
        raise
    except Exception as error:  # damaged files can raise anything
        fix = "save it again"
        if "allow_pickle" in str(error):
            fix = "give its .pt twin, or save plain arrays: numpy.savez(path, **arrays)"
        raise InputError(
            "a file for the probes cannot be read",
            found=f"{path}: {error or type(error).__name__}",
            expected=f"plain numbers in {', '.join(READERS)}",
            fix=fix,
        ) from error


def named(path: Path) -> dict[str, Any]:
    """The arrays of a file by name.

    Raises:
        InputError: it cannot be read, or has no names.
    """
    values = read_values(path)
    if not isinstance(values, Mapping):
        raise InputError(
            "the arrays of a file have no names",
            found=f"{path}: {type(values).__name__}",
            expected="a dictionary of arrays",
            fix="numpy.savez(path, inputs=..., targets=...)",
        )
    return {str(name): value for name, value in values.items()}


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"the ending {suffix!r} is not read")
    return READERS[suffix](path)


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _torch(path: Path) -> Any:
    from analyze.checkpoints.numpy_values import with_arrays
    from analyze.checkpoints.pickles import load_values

    return with_arrays(load_values(path)[0])


def _words(path: Path) -> np.ndarray:
    return np.array([int(word) for word in path.read_text(encoding="utf-8").split()])


def _csv(path: Path) -> Any:
    """Columns by name, or one array where there is one column and no header."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise ValueError("no lines")
    if len(lines[0]) == 1 and lines[0][0].lstrip("-").isdecimal():
        return np.array([int(line[0]) for line in lines])
    columns = zip(*lines[1:], strict=True)
    return {name: _typed(list(c)) for name, c in zip(lines[0], columns, strict=True)}


def _typed(words: list[str]) -> np.ndarray:
    """Integers or numbers where all are, truth values, else words."""
    if {word.lower() for word in words} <= {"true", "false"}:
        return np.array([word.lower() == "true" for word in words])
    for kind in (int, float):
        try:
            return np.array([kind(word) for word in words])
        except ValueError:
            continue
    return np.array(words)


READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": load_file,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".csv": _csv,
    ".txt": _words,
}
