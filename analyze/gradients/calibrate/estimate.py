"""What a batch takes, of what a checkpoint is made of: by measuring a few."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from analyze.gradients.device.timing import WHOLE, Clock, seconds
from analyze.gradients.threads.sharing import at_once

MeasureBatch = Callable[[Clock | None], object]


class BatchTime(NamedTuple):
    """Of batches that several threads measure at the same time.

    Args:
        begun: Seconds in which each has its memory.
        taken: Seconds of a batch in the slowest of them.
        methods: Each method's share of that.
    """

    begun: float
    taken: float
    methods: dict[str, float]


def time_of_a_batch(measures: Sequence[MeasureBatch]) -> BatchTime:
    """Time a batch, which all threads measure, as they share caches and memory.

    Args:
        measures: Of each thread, what does it, and tells a clock what each method takes; of one,
            it is done by this thread, and by as many as torch has.
    """
    if len(measures) == 1:
        return _timed(measures[0])._replace(begun=0.0)
    return max(at_once([partial(_timed, measure) for measure in measures]), key=attrgetter("taken"))


def _timed(measure: MeasureBatch) -> BatchTime:
    start = time.perf_counter()
    measure(None)  # the first may allocate
    first = time.perf_counter() - start
    taken, clock = seconds(partial(measure, None)), Clock()
    with clock.measuring(WHOLE):
        measure(clock)
    return BatchTime(max(0.0, first - taken), taken, clock.shares())
