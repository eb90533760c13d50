"""Turns that forks take with batches of one model."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from analyze.gradients.batch import TakeTotals
from analyze.gradients.room import shared

PAUSE = 2e-4  # seconds between looks at whether a turn has come


class Turns:
    """Sees to it that forks add their batches to each sum in the order of the batches.

    Then the sums are those of one process, to the bit. Whoever has a batch waits, parameter by
    parameter, until the batch before has been added; that one is always in work or done, as
    batches are begun in order.

    Args:
        names: Of the parameters. Forks that take turns are born after this.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Also what makes one process's sums seen by the next.
        self._lock = multiprocessing.get_context("fork").Lock()
        self._numbers = {name: number for number, name in enumerate(names)}
        self._added = np.frombuffer(shared(8 * len(names)), np.int64, len(names))  # batches

    def in_order(self, batch: int, take: TakeTotals) -> TakeTotals:
        """Take a batch's totals of each parameter when those of all batches before it are.

        Args:
            batch: Its number, from 0.
            take: Takes them.
        """

        def taken(name: str, totals: Tensor, scale: float) -> None:
            number = self._numbers[name]
            self._wait(lambda: self._added[number] == batch)
            take(name, totals, scale)
            with self._lock:
                self._added[number] += 1

        return taken

    def end(self, batch: int) -> None:
        """A batch is done: what it had no gradient of counts as added, too."""
        self._wait(lambda: self._added.min() >= batch)
        with self._lock:
            np.maximum(self._added, batch + 1, out=self._added)

    def _wait(self, until: Callable[[], bool]) -> None:
        while True:
            with self._lock:
                if until():
                    return
            time.sleep(PAUSE)
