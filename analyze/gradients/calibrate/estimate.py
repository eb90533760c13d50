"""The time that a batch takes, by measuring a few."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import torch

from analyze.gradients.device.timing import WHOLE, Clock, seconds
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.threads.sharing import at_once

TimedBatch = Callable[[Clock | None], object]  # measures a batch, each method by the clock


class BatchTime(NamedTuple):
    """The time of batches that several threads measure at the same time."""

    begun: float  # seconds until each thread has its memory
    taken: float  # seconds of a batch in the slowest thread
    methods: dict[str, float]  # each method's share of the time


def time_of_a_batch(measures: Sequence[TimedBatch], device: torch.device) -> BatchTime:
    """Time a batch that all threads measure together, as they share caches and memory.

    A single thread's batch is measured by the calling thread, with as many threads as torch has.
    """
    if len(measures) == 1:
        return _timed(measures[0], device)._replace(begun=0.0)
    timed = at_once([partial(_timed, measure, device) for measure in measures])
    return max(timed, key=attrgetter("taken"))


def seconds_of_forward(replica: Replica, inputs: Inputs) -> float:
    """Seconds of a forward pass for one example, measured over some."""
    with torch.no_grad():
        return seconds(lambda: replica(inputs), replica.device) / len(inputs)


def _timed(measure: TimedBatch, device: torch.device) -> BatchTime:
    start = time.perf_counter()
    measure(None)  # the first may allocate
    first = time.perf_counter() - start
    taken, clock = seconds(partial(measure, None), device), Clock(device)
    with clock.measuring(WHOLE):
        measure(clock)
    return BatchTime(max(0.0, first - taken), taken, clock.shares())
