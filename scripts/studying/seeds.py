"""A quantity of single trainings, put together over their seeds: mean, interval and verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analyze.statistics.jackknife import t_quantile
from scripts.studying.store import Measured

ENOUGH = 3  # seeds; with fewer their values are shown, and nothing is claimed


@dataclass(frozen=True)
class OverSeeds:
    """Values of one quantity, one for each seed; logarithms where ``is_log``."""

    values: tuple[float, ...]
    is_log: bool = True
    seeds: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """The mean, as a ratio where the values are logarithms."""
        return self._shown(float(np.mean(self.values)) if self.values else float("nan"))

    @property
    def is_enough(self) -> bool:
        """Whether there are enough seeds to claim anything."""
        return len(self.values) >= ENOUGH

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of Student's t over the seeds; NaN of fewer than ``ENOUGH``."""
        lower, upper = self._plain_interval
        return self._shown(lower), self._shown(upper)

    @property
    def _plain_interval(self) -> tuple[float, float]:
        n = len(self.values)
        if n < ENOUGH:
            return float("nan"), float("nan")
        spread = np.std(self.values, ddof=1) / np.sqrt(n)
        half = t_quantile(n - 1) * spread
        return float(np.mean(self.values) - half), float(np.mean(self.values) + half)

    def holds_one_more(self, value: float) -> bool:
        """Whether a value lies within the 95 % interval of one more seed; of too few, is equal."""
        n = len(self.values)
        if n < ENOUGH:
            return value in self.values
        half = t_quantile(n - 1) * np.std(self.values, ddof=1)
        return abs(value - np.mean(self.values)) <= half * np.sqrt(1 + 1 / n)

    def sign(self) -> int:
        """1 or -1 where the interval lies above or below 0 (a ratio of 1), else 0."""
        lower, upper = self._plain_interval
        return 1 if lower > 0 else -1 if upper < 0 else 0

    def above(self, bound: float) -> int:
        """1 or -1 where the interval lies above or below a bound, else 0."""
        lower, upper = self.interval
        return 1 if lower > bound else -1 if upper < bound else 0

    def _shown(self, value: float) -> float:
        return float(np.exp(value)) if self.is_log else value

    def __str__(self) -> str:
        """``0.42 (0.30 to 0.58)``, or the values of too few seeds."""
        if not self.values:
            return "not measured"
        if len(self.values) < ENOUGH:
            shown = " and ".join(digits(self._shown(value)) for value in self.values)
            return f"{shown} ({len(self.values)} of {ENOUGH} seeds)"
        lower, upper = self.interval
        return f"{digits(self.mean)} ({digits(lower)} to {digits(upper)})"


def over_seeds(
    trainings: Sequence[Measured],
    quantity: Callable[[Measured], float | None],
    *,
    is_log: bool = True,
) -> OverSeeds:
    """A quantity of each training; those where it has no value are left out."""
    found = [(m.training.seed, value) for m in trainings if (value := quantity(m)) is not None]
    known = [(seed, value) for seed, value in found if np.isfinite(value)]
    return OverSeeds(tuple(v for _, v in known), is_log, tuple(seed for seed, _ in known))


def digits(value: float) -> str:
    """Two significant digits, three above 100; never a power of ten."""
    if not np.isfinite(value):
        return "unknown"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    places = max(0, 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(places, 4)}f}"
