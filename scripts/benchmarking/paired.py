"""Times as ratios: a way and the plain step in turn, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def ratios(
    way: Callable[[], object], plain: Callable[[], object], repeats: int
) -> dict[str, float]:
    """Median, and the middle half, of the time of ``way`` over that of ``plain``, in pairs."""
    for step in (plain, way, plain, way):
        step()
    found = sorted(_seconds(way) / _seconds(plain) for _ in range(repeats))
    low, middle, high = statistics.quantiles(found, n=4)
    return {"median": middle, "low": low, "high": high, "pairs": repeats}


def _seconds(step: Callable[[], object]) -> float:
    _wait()
    start = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
