"""Checkpoints in words, by their places along training, for figures, pages and the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.text import PLACES, place_text, shown_name


@dataclass(frozen=True)
class Places:
    """Where the checkpoints lie, in the order of the results."""

    of: str  # ``step`` or ``epoch``; empty where neither is known of any
    names: list[str]  # ``step 32``; the file's name where the place is unknown
    ticks: list[str]  # ``32``; the file's name where the place is unknown


def places(table: xr.Dataset) -> Places:
    """The places of the checkpoints of a table with ``checkpoint``, ``step`` and ``epoch``."""
    for name in PLACES:
        if name in table and np.isfinite(values := table[name].values.astype(float)).any():
            return in_words(table, values, name)
    files = _files(table)
    return Places("", files, files)


def in_words(table: xr.Dataset, values: Iterable[float], of: str) -> Places:
    """Places in words that are known as numbers: steps, epochs or losses, NaN where unknown."""
    texts = [place_text(v, of) if np.isfinite(v) else "" for v in map(float, values)]
    pairs = list(zip(texts, _files(table), strict=True))
    return Places(of, [f"{of} {t}" if t else f for t, f in pairs], [t or f for t, f in pairs])


def _files(table: xr.Dataset) -> list[str]:
    return [shown_name(str(name)) for name in table["checkpoint"].values]
