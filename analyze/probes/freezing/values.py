"""Arrays in files of users: npy, npz, pt, safetensors, JSON, tables, lists."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError
from analyze.files.arrays import read_arrays
from analyze.files.present import is_file
from analyze.probes.freezing.tables import read_csv, read_json, read_json_lines, read_words

MOST_BYTES = 256 << 20  # of arrays that are unpacked; or MOST_TIMES their file, if that is more
MOST_TIMES = 64


def read_values(path: Path) -> Any:
    """An array, or a dictionary of arrays by name; no pickle that can run code is opened."""
    if not is_file(path):
        raise InputError(
            "a file for the probes is missing",
            found=f"no file {path}",
            expected=f"a file of {', '.join(READERS)}",
            fix="give the path of the file, from here",
        )
    suffix = path.suffix.lower()
    try:
        if suffix not in READERS:
            raise ValueError(f"the ending {suffix!r} is not read")
        return READERS[suffix](path)
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
    """The arrays of a file by name; a file whose arrays have no names is refused."""
    values = read_values(path)
    if not isinstance(values, Mapping):
        raise InputError(
            "the arrays of a file have no names",
            found=f"{path}: {type(values).__name__}",
            expected="a dictionary of arrays",
            fix="numpy.savez(path, inputs=..., targets=...)",
        )
    return {str(name): value for name, value in values.items()}


def _npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, which may be packed as numpy packs them, but no bomb."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > max(MOST_BYTES, MOST_TIMES * path.stat().st_size):
        raise ValueError(f"{path.stat().st_size} bytes that unpack to {size}")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _torch(path: Path) -> Any:
    from analyze.checkpoints.torch_files.pickled_values import with_arrays
    from analyze.checkpoints.torch_files.pickles import load_values

    return with_arrays(load_values(path))


READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": lambda path: read_arrays(path)[0],
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_words,
}
