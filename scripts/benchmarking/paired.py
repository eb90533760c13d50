"""Times as ratios: a way and the plain step in turn, so that both meet the same machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch

from analyze.gradients.device.timing import once


def each_ratio(
    way: Callable[[], object],
    plain: Callable[[], object],
    pairs: int,
    device: torch.device,
    long: float = math.inf,
    share: float = 1.0,
) -> list[float]:
    """The time of ``way`` over that of ``plain``, in pairs.

    Args:
        way: What is timed.
        plain: Against what.
        pairs: How many.
        device: Where both run.
        long: Seconds of ``plain`` from which one pair is enough, and nothing runs beforehand.
        share: How much of the work of ``way`` that ``plain`` does.
    """
    found: list[float] = []
    if math.isinf(long):
        for step in (plain, way, plain, way):
            step()
    while len(found) < pairs:
        taken = once(plain, device)
        found.append(once(way, device) * share / taken)
        if taken > long:
            break
    return found


def spread(found: list[float]) -> dict[str, float]:
    """Median, and the middle half, of the ratios of so many pairs."""
    low, middle, high = statistics.quantiles(found, n=4) if len(found) > 1 else found * 3
    return {"median": middle, "low": low, "high": high, "pairs": len(found)}
