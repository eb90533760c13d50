"""A value of m-coherence with its error and its checkpoint, as sentences and cards say it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup

from analyze.results.places import Places
from analyze.statistics.warnings import FLAGS, marks_of
from analyze.text import to_two_digits


@dataclass(frozen=True)
class Value:
    """M-coherence with its standard error, at a checkpoint."""

    value: float
    error: float  # NaN where unknown
    where: str  # ``step 32``
    tick: str  # ``32``
    marks: str = ""  # letters of its warnings
    place: int = 0  # index of the checkpoint
    small: bool = False  # of a quantity far below 1: two significant digits, not two decimals

    def __str__(self) -> str:
        return to_two_digits(self.value, self.error)


def value_at(series: xr.Dataset, place: int, along: Places, small: bool = False) -> Value | None:
    """The value of a series over ``checkpoint`` at one of them; None where it has none."""
    value, error = (float(series[f"m_coherence{end}"].values[place]) for end in ("", "_stderr"))
    if not np.isfinite(value):
        return None
    marks = marks_of(float(series[FLAGS].values[place])) if FLAGS in series else ""
    return Value(value, error, along.names[place], along.ticks[place], marks, place, small)


def peak(series: xr.Dataset) -> int | None:
    """The index of the checkpoint with the highest value of a series; None without any."""
    values = series["m_coherence"].values
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def in_words(value: Value) -> Markup:
    """``78 ± 11`` for a page: the error with two digits, the value to the same place."""
    number, sign, error = str(value).partition(" +- ")
    spread = Markup(' <span class="pm">± {}</span>').format(error) if sign else ""
    return Markup('<span class="whole">{}{}</span>').format(number, spread)
