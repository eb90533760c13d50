"""The places of checkpoints along training, and the axis that figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes

from analyze.errors import InputError, listed, unknown
from analyze.figures.colours import WARNING
from analyze.figures.names import figure_text
from analyze.figures.style import NARROW, width_of
from analyze.probes.subsets import ALL
from analyze.results.places import in_words, places
from analyze.results.tree import OK
from analyze.text import place_text

DENSE_EARLY = 0.25  # share of the range below which the middle checkpoint lies if early are dense
LETTERS = 14  # of an axis label, for each inch of the figure
DECADES = 1e3  # ratio of the ends of an axis of losses above which it is logarithmic
SCALES = ("automatic", "linear", "log")
_scale: ContextVar[str] = ContextVar("scale", default="automatic")
LABELS = {
    "step": "optimizer step",
    "epoch": "epoch",
    "loss": "mean loss of all training probes",
}


@dataclass(frozen=True)
class Training:
    """The checkpoints' places along training, in the order of the results."""

    values: np.ndarray  # [checkpoint], NaN where unknown
    label: str  # of the axis
    names: list[str]  # ``step 32``; the file's name where the place is unknown
    ticks: list[str]  # ``32``; the file's name where the place is unknown
    skipped: np.ndarray  # [checkpoint], whether it could not be measured
    unplaced: int = 0  # measured checkpoints without a place
    falling: bool = False  # from high values to low ones, as the loss; it may turn back on its way


def training(results: xr.DataTree, x: str | None = None) -> Training:
    """The places of the checkpoints on an axis.

    ``x`` is ``step``, ``epoch``, or ``loss``: the mean loss of all training probes, from high to
    low. By default it is steps where any is known, else epochs, else the order of checkpoints.

    Raises:
        InputError: no such axis, or no checkpoint has a place on it.
    """
    root = results.to_dataset()
    if x is not None:
        _check_axis(root, x)
    skipped = root["status"].values.astype(str) != OK
    found = places(root) if x is None else in_words(root, _places(root, x), x)
    if not found.of:
        order = np.arange(1.0, len(found.names) + 1)
        return Training(order, "checkpoint, in order", found.names, found.ticks, skipped)
    values = _places(root, found.of)
    unplaced = int((~np.isfinite(values) & ~skipped).sum())
    label, falling = f"{LABELS[found.of]}{_units(root, found.of)}", found.of == "loss"
    return Training(values, label, found.names, found.ticks, skipped, unplaced, falling)


@contextmanager
def on_scale(name: str) -> Iterator[None]:
    """A context in which axes of training are ``linear``, ``log``, or what suits: ``automatic``.

    Raises:
        InputError: none of these.
    """
    if name not in SCALES:
        found = f"x_scale = {name!r}"
        raise unknown("there is no such scale", found, SCALES, "--x-scale log")
    before = _scale.set(name)
    try:
        yield
    finally:
        _scale.reset(before)


def scale_of_training() -> str:
    """The scale of axes of training, as ``on_scale`` says; ``automatic`` without it."""
    return _scale.get()


def set_training_axis(ax: Axes, along: Training, *, sparse: bool = False) -> None:
    """Set scale, ticks and label of the x axis, with a cross below each skipped checkpoint.

    Where early checkpoints are dense the axis is logarithmic beyond the first of them (symlog,
    as training starts at 0), else linear. A loss falls from left to right, on a logarithmic axis
    where it falls by more than three decades. ``on_scale`` chooses one for all figures.
    ``sparse`` panels are narrow and have few ticks.
    """
    sparse = sparse or width_of(ax) < NARROW
    known = np.unique(along.values[np.isfinite(along.values)])
    if along.falling and len(known) > 1:
        _set_falling_axis(ax, known, sparse)
    elif _is_logarithmic(known):
        first = known[known > 0][0]
        ax.set_xscale("symlog", linthresh=first, linscale=0.5)
        wide = known[-1] / first > 1e4
        decades = ticker.SymmetricalLogLocator(
            base=10, linthresh=first, subs=[1] if wide or sparse else [1, 2, 5]
        )
        places = np.asarray(decades.tick_values(0, known[-1]))
        if sparse:
            places = places[(places == 0) | (places >= 2 * first)]
        ax.xaxis.set_major_locator(ticker.FixedLocator(places[(places == 0) | (places >= first)]))
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    elif len(known) == 1:
        ax.set_xlim(known[0] - 1, known[0] + 1)
        ax.xaxis.set_major_locator(ticker.FixedLocator(known.tolist()))
    else:
        ticks = ticker.MaxNLocator(3 if sparse else "auto", integer=True, steps=[1, 2, 5, 10])
        ax.xaxis.set_major_locator(ticks)
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: compact(value)))
    ax.margins(x=0.02)
    crosses = along.values[along.skipped & np.isfinite(along.values)]
    if len(crosses):
        ax.plot(
            crosses, np.zeros(len(crosses)), "x", color=WARNING, markersize=5, markeredgewidth=1.2,
            transform=ax.get_xaxis_transform(), clip_on=False, zorder=5, label="_skipped",
        )  # fmt: skip
    label = "; ".join([figure_text(along.label), *_remarks(along, len(crosses))])
    ax.set_xlabel(textwrap.fill(label, int(LETTERS * width_of(ax))))


def _set_falling_axis(ax: Axes, known: np.ndarray, sparse: bool) -> None:
    """Set an axis from high values to low ones; logarithmic beyond three decades."""
    suits = known[-1] > DECADES * known[0]
    if known[0] > 0 and {"linear": False, "log": True}.get(scale_of_training(), suits):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(10, numticks=4 if sparse else 9))
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    elif sparse:
        ax.xaxis.set_major_locator(ticker.MaxNLocator(3))
    if not ax.xaxis_inverted():
        ax.invert_xaxis()


def _check_axis(root: xr.Dataset, x: str) -> None:
    """Refuse an axis that is unknown, or on which no checkpoint has a place."""
    if x not in LABELS:
        raise unknown("there is no such axis", f"x = {x!r}", LABELS, "--x step")
    known = [name for name in LABELS if np.isfinite(_places(root, name)).any()]
    if x not in known:
        raise InputError(
            f"the {x} is not known of any checkpoint",
            found=f"results with {listed(known) if known else 'neither step, epoch nor loss'}",
            expected=f"at least one checkpoint with its {x}",
            fix=f"--x {known[0]}" if known else "leave --x out: checkpoints in their order",
        )


def _places(root: xr.Dataset, name: str) -> np.ndarray:
    """Steps, epochs, or losses of the checkpoints, ``[checkpoint]``."""
    if name == "loss":
        return root["loss"].sel(subset=ALL).values.astype(float)
    return root[name].values.astype(float)


def _units(root: xr.Dataset, name: str) -> str:
    return f" ({root['loss'].attrs.get('units', 'nats')})" if name == "loss" else ""


def compact(value: float) -> str:
    """A step as a tick shows it: ``1,280``, ``120k``, ``1.5M``; one of more digits, ``13,559``.

    ``pages/scripts/format.js`` has the same.
    """
    if value != float(f"{value:.3g}"):
        return place_text(value)
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{place_text(value / (1e3 if letter == 'k' else 1e6))}{letter}"
    return place_text(value)


def _remarks(along: Training, crosses: int) -> list[str]:
    """Remarks on the axis: the meaning of crosses, and how many checkpoints are not on it."""
    unplaced = f"{along.unplaced} checkpoint{'s'[: along.unplaced > 1]} without one not shown"
    skipped = "\N{MULTIPLICATION SIGN} = skipped"
    if along.falling and (lost := int(along.skipped.sum())):  # without a loss to lie at
        return [f"{lost} skipped", *[unplaced] * (along.unplaced > 0)]
    return [skipped] * (crosses > 0) + [unplaced] * (along.unplaced > 0)


def _is_logarithmic(known: np.ndarray) -> bool:
    """Whether an axis of steps is logarithmic, which takes two places beyond 0.

    By default where half of the checkpoints lie in the first quarter of a range of over a decade.
    """
    positive, scale = known[known > 0], scale_of_training()
    if len(positive) < 2 or known[0] < 0 or scale == "linear":
        return False
    if scale == "log":
        return True
    if positive[-1] / positive[0] <= 10:
        return False
    return bool(np.median(known) < DENSE_EARLY * known[-1])
