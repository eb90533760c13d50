"""Which runs are compared fold by fold, and by what ratio."""

from __future__ import annotations

from analyze.comparison.runs import Run
from analyze.statistics.ratios import RATE, log_ratio

__all__ = ["RATE", "folds_pair", "log_ratio"]


def folds_pair(first: Run, second: Run, *, same: bool) -> bool:
    """Whether the folds of two runs hold the same probes."""
    return same and first.folds == second.folds and len(first.folds) > 1
