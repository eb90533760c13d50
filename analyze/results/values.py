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
    return Values.of(series, along, small).at(place)


@dataclass(frozen=True)
class Values:
    """The values of one series over training as plain arrays, ``[checkpoint]``."""

    values: np.ndarray
    errors: np.ndarray
    flags: np.ndarray  # of warnings
    along: Places
    small: bool = False

    @staticmethod
    def of(series: xr.Dataset, along: Places, small: bool = False) -> Values:
        """Of a data set over ``checkpoint``."""
        values, errors = (series[f"m_coherence{end}"].values for end in ("", "_stderr"))
        flags = series[FLAGS].values if FLAGS in series else np.zeros(len(values))
        return Values(values, errors, flags, along, small)

    def at(self, place: int) -> Value | None:
        """The value at a checkpoint; None where it has none."""
        if not np.isfinite(value := float(self.values[place])):
            return None
        marks, where = marks_of(float(self.flags[place])), self.along.names[place]
        tick, error = self.along.ticks[place], float(self.errors[place])
        return Value(value, error, where, tick, marks, place, self.small)

    def peak(self) -> Value | None:
        """The highest value; None without any."""
        known = np.isfinite(self.values).any()
        return self.at(int(np.nanargmax(self.values))) if known else None


def peak(series: xr.Dataset) -> int | None:
    """The index of the checkpoint with the highest value of a series; None without any."""
    values = series["m_coherence"].values
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def in_words(value: Value) -> Markup:
    """``78 ± 11`` for a page: the error with two digits, the value to the same place."""
    number, sign, error = str(value).partition(" +- ")
    spread = Markup(' <span class="pm">± {}</span>').format(error) if sign else ""
    return Markup('<span class="whole">{}{}</span>').format(number, spread)
