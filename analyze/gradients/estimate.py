"""What a batch takes, of what a checkpoint is made of: by measuring a few."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from analyze.gradients.sharing import in_forks_at_once
from analyze.gradients.timing import WHOLE, Clock, seconds

MeasureBatch = Callable[[Clock | None], object]


class BatchTime(NamedTuple):
    """Of batches that several processes measure at the same time.

    Args:
        begun: Seconds in which the processes are born and have their memory.
        taken: Seconds of a batch in the slowest of them.
        methods: Each method's share of that.
    """

    begun: float
    taken: float
    methods: dict[str, float]


class _Timed(NamedTuple):
    first: float  # when a first batch was done
    taken: float
    methods: dict[str, float]


def time_of_a_batch(measure: MeasureBatch, processes: int) -> BatchTime:
    """Time a batch, which all processes measure, as they share caches and memory.

    Args:
        measure: Does it, and tells a clock what each method takes.
        processes: So many forks at the same time; with 1 it is this process.
    """
    start = time.perf_counter()
    found = in_forks_at_once(partial(_timed, measure), processes)
    if not found:
        return BatchTime(0.0, *_timed(measure)[1:])
    slowest = max(found, key=attrgetter("taken"))
    begun = max(0.0, slowest.first - start - slowest.taken)
    return BatchTime(begun, slowest.taken, slowest.methods)


def _timed(measure: MeasureBatch) -> _Timed:
    measure(None)  # the first may allocate
    first, clock = time.perf_counter(), Clock()
    taken = seconds(partial(measure, None))
    with clock.measuring(WHOLE):
        measure(clock)
    return _Timed(first, taken, clock.shares())
