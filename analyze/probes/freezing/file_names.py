"""Examples by the names of their files, as tables of an image folder have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from analyze.errors import listed

COLUMNS = ("file", "filename", "file_name", "path", "image", "img")
DEPTH = 3  # folders above a file that a table may name


def files_of(dataset: Any, count: int) -> tuple[str, ...]:
    """The paths of an ImageFolder's examples, in its order; empty for other data sets."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or len(samples) != count:
        return ()
    paths = [sample[0] for sample in samples if isinstance(sample, tuple) and sample]
    return tuple(paths) if all(isinstance(p, str) for p in paths) and len(paths) == count else ()


def positions(words: Sequence[str], files: Sequence[str]) -> np.ndarray:
    """The position of each file: by its whole path, or by as much of its end as is given.

    Raises:
        ValueError: no such file, or several that end so.
    """
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
