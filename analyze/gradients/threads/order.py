"""The order in which batches are added up, whichever thread has them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from torch import Tensor

from analyze.gradients.step.result import TakeTotals

Batch = TypeVar("Batch")
# No parameters' names: all sums of a batch, and what it gives besides them.
SUMS, REST = "sums of a batch", "rest of a batch"


class BatchOrder(Generic[Batch]):
    """Lets threads add their batches to each sum in the batches' order: the bits of one thread.

    A thread waits, parameter by parameter, until the batch before has been added. That batch is
    always in work or done, as batches are begun in order.
    """

    def __init__(self, names: Sequence[str], batches: Iterable[Batch]) -> None:
        self._coming = enumerate(batches)
        self._beginning = threading.Lock()
        self._next = dict.fromkeys([*names, SUMS, REST], 0)  # number of the batch to be added
        self._changed = threading.Condition()
        self._stopped = False

    def next_ones(self) -> Iterator[tuple[int, Batch]]:
        """Batches and their numbers, each to one thread, until there are no more."""
        while True:
            with self._beginning:
                batch = next(self._coming, None)
            if batch is None or self._stopped:
                return
            yield batch

    def taking(self, batch: int, take: TakeTotals) -> TakeTotals:
        """``take`` for the totals of a batch, which waits for those of the batch before."""

        def taken(name: str, totals: Tensor, unscale: Tensor) -> None:
            if self._wait(name, batch):
                take(name, totals, unscale)
                with self._changed:
                    self._next[name] = batch + 1
                    self._changed.notify_all()

        return taken

    def summed(self, batch: int) -> None:
        """The totals of a batch have all been taken, or it had no gradient of a parameter."""
        if self._wait(SUMS, batch):
            with self._changed:  # the batch after it may have added to some sums
                rest = self._next[REST]
                self._next = {name: max(k, batch + 1) for name, k in self._next.items()}
                self._next[REST] = rest
                self._changed.notify_all()

    def finish(self, batch: int, add: Callable[[], None]) -> None:
        """Add what a batch gives besides its sums, which may be later."""
        if self._wait(REST, batch):
            add()
            with self._changed:
                self._next[REST] = batch + 1
                self._changed.notify_all()

    def stop(self) -> None:
        """End all waiting; no batch is begun, nothing is added any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _wait(self, name: str, batch: int) -> bool:
        """Wait for the batch's turn; False if all is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._next[name] == batch)
            return not self._stopped
