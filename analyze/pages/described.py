"""Alternative texts: what a figure shows, in words that its numbers make true.

A text says ranges, highest and lowest values with their places, and a trend only where every value
follows it. It compares nothing: a highest value is the highest that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.figures.names import plain
from analyze.figures.numbers import Numbers, Quantity
from analyze.pages.text import rounded

MOST = 6  # lines that are described one by one


def described(title: str, numbers: Numbers, places: Sequence[str]) -> str:
    """The text for a figure: its title and a sentence or more for each quantity that it draws.

    Args:
        title: The title of the figure.
        numbers: Its numbers.
        places: The checkpoints in words, ``step 32``, in the order of the numbers.
    """
    return f"{title}. " + " ".join(_quantity(one, places) for one in numbers)


def _quantity(one: Quantity, places: Sequence[str]) -> str:
    name = one.name[0].upper() + one.name[1:]
    if not np.isfinite(one.values).any():
        return f"{name}: no values."
    count = one.values.sizes[one.beside] if one.beside else 1
    if "layer" in one.values.dims or count > MOST:
        return f"{name}: {_range(one.values, places)}."
    if one.beside is None:
        return f"{name}: {_course(one.values.values, places)}."
    lines = [
        f"{plain(str(label))} {_course(one.values.sel({one.beside: label}).values, places)}"
        for label in one.values[one.beside].values
    ]
    return f"{name}: {'; '.join(lines)}."


def _course(values: np.ndarray, places: Sequence[str]) -> str:
    """A line over training: its ends, its trend where it has one, its highest and lowest value."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return "has no values"

    def at(k: int) -> str:
        return f"{rounded(float(values[k]))} at {places[k]}"

    if len(known) == 1:
        return f"is {at(known[0])}"
    first, last, steps = known[0], known[-1], np.diff(values[known])
    if (steps == 0).all():
        return f"stays at {rounded(float(values[first]))}"
    if (steps >= 0).all() or (steps <= 0).all():
        verb = "rises" if values[last] > values[first] else "falls"
        return f"{verb} throughout from {at(first)} to {at(last)}"
    high, low = known[np.argmax(values[known])], known[np.argmin(values[known])]
    extremes = [f"highest {at(high)}"] if high not in (first, last) else []
    extremes += [f"lowest {at(low)}"] if low not in (first, last) else []
    return ", ".join([f"goes from {at(first)} to {at(last)}", *extremes])


def _range(values: xr.DataArray, places: Sequence[str]) -> str:
    """The lowest and highest value of all layers, lines and checkpoints, and what is lacking."""
    flat = values.values.ravel()

    def at(k: int) -> str:
        where = dict(zip(values.dims, map(int, np.unravel_index(k, values.shape)), strict=True))
        words = [
            places[place] if dim == "checkpoint" else plain(str(values[dim].values[place]))
            for dim, place in where.items()
        ]
        return f"{rounded(float(flat[k]))} ({', '.join(words)})"

    text = f"from {at(int(np.nanargmin(flat)))} to {at(int(np.nanargmax(flat)))}"
    missing = int((~np.isfinite(flat)).sum())
    return text + (f"; {missing:,} of {len(flat):,} have no value" if missing else "")
