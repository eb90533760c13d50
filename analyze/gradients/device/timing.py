"""Times: seconds of some work, of each method, of a checkpoint."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from analyze.gradients.device.devices import synchronize

WHOLE = "whole"  # what the methods are a share of
HOPELESS = 4.0  # times the fastest run, beyond which a way cannot be the fastest
COMPILING = 0.02  # seconds that a first run may take for its kernels to be compiled
ROUNDS = 3
MOMENT = 1e-9  # seconds; no clock tells shorter ones
EQUAL: Mapping[Any, int] = {}

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of a checkpoint, and how they are spent.

    ``share`` has each method's share of the time of a batch; the rest is the forward pass and the
    gradients of the activations.
    """

    checkpoint: float
    gram: float  # of these, for the Gram matrices of the cells' sums
    share: dict[str, float]


@dataclass
class Budget:
    """Seconds that may be spent on finding out what is fastest."""

    left: float

    def rounds(self, most: int, seconds: float) -> int:
        """How many rounds of so many seconds are paid for: one at least."""
        rounds = max(1, min(most, int(self.left / max(seconds, MOMENT))))
        self.left -= rounds * seconds
        return rounds


class Clock:
    """Seconds by method, over the batches that were measured with it.

    Each measurement waits for the device, so the batch as a whole is slower than without a clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measuring(self, method: str) -> Iterator[None]:
        """Add the time that the block takes."""
        synchronize(self._device)
        start = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds[method] = self.seconds.get(method, 0.0) + time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Each method's share of what was measured as ``WHOLE``."""
        whole = self.seconds[WHOLE]
        return {m: taken / whole for m, taken in self.seconds.items() if m != WHOLE}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes on a device: the middle one of a few runs.

    The first may allocate. Not the fastest: what is done many times meets whatever else the machine
    does.
    """
    return statistics.median(once(work, device) for _ in range(ROUNDS))


def fastest(
    ways: Mapping[Name, Callable[[], object]],
    device: torch.device,
    done: Mapping[Name, int] = EQUAL,
    rounds: int = ROUNDS,
    budget: Budget | None = None,
) -> Name:
    """Which of several ways takes the least time on a device.

    All run once, as what runs first pays for memory that those after it find, and once more where
    compiling kernels may be all that is slow; then those that are not hopeless run in ``rounds``,
    so that a noisy moment hits them all, and the best run of each counts. ``done`` says how much
    work each does, where that differs. A ``budget`` may pay for fewer rounds.
    """

    def taken(name: Name) -> float:
        return once(ways[name], device) / done.get(name, 1)

    first = {name: taken(name) for name in ways}
    bound = HOPELESS * min(first.values())
    for name, time_taken in first.items():
        if bound < time_taken <= bound + COMPILING / done.get(name, 1):
            first[name] = taken(name)
    contenders = [name for name in ways if first[name] <= bound]
    if budget is not None:
        budget.left -= sum(first[name] * done.get(name, 1) for name in ways)
        a_round = sum(first[name] * done.get(name, 1) for name in contenders)
        rounds = budget.rounds(rounds, a_round)
    runs = [{name: taken(name) for name in contenders} for _ in range(rounds)]
    return min(contenders, key=lambda name: min(run[name] for run in runs))


def once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that one run of some work takes until the device has done it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start
