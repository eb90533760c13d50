"""Turns that threads take with the batches of one model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from torch import Tensor

from analyze.gradients.batch import TakeTotals

# Of its way back through the parameters, after which a batch counts as shrinking. Later, and
# threads wait for each other: more than half of their time is before that (ADR 20).
WAY_BACK = 0.25


class Turns:
    """Which thread may do what with which batch.

    **Sums are those of one thread, to the bit**: batches are added to each in their order. Whoever
    has a batch waits, parameter by parameter, until the one before has been added; that one is
    always in work or done, as batches are begun in order.

    **Not all batches are at their largest at once**: what a batch holds grows in its forward pass
    and shrinks in its backward pass, and only half of the threads may have one that grows.

    Args:
        names: Of the parameters, about in the order in which a forward pass meets them.
        batches: How many there are, numbered from 0.
        threads: How many take turns.
    """

    def __init__(self, names: Sequence[str], batches: int, threads: int) -> None:
        self._changed = threading.Condition()
        self._added = dict.fromkeys(names, 0)  # batches
        self._shrinking = frozenset(names[: round((1 - WAY_BACK) * len(names))])
        self._batches = batches
        self._begun = 0
        self._growing: set[int] = set()
        self._most_growing = -(-threads // 2)
        self._stopped = False

    def begin(self) -> int | None:
        """The next batch, when it may grow; None where there is none."""
        with self._changed:
            self._wait(lambda: self._none_left() or len(self._growing) < self._most_growing)
            if self._none_left():
                return None
            number = self._begun
            self._growing.add(number)
            self._begun += 1
            return number

    def in_order(self, batch: int, take: TakeTotals) -> TakeTotals:
        """Take a batch's totals of each parameter when those of all batches before it are.

        Args:
            batch: Its number.
            take: Takes them; not called any more once ``stop`` was.
        """

        def taken(name: str, totals: Tensor, scale: float) -> None:
            with self._changed:
                if name in self._shrinking:
                    self._shrinks(batch)
                self._wait(lambda: self._added[name] == batch)
                if self._stopped:
                    return
            take(name, totals, scale)
            with self._changed:
                self._added[name] += 1
                self._changed.notify_all()

        return taken

    def end(self, batch: int) -> None:
        """A batch is done: what it had no gradient of counts as added, too."""
        with self._changed:
            self._shrinks(batch)
            self._wait(lambda: min(self._added.values()) >= batch)
            self._added = {name: max(done, batch + 1) for name, done in self._added.items()}
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody waits any more, and no batch is begun: what was added up is worth nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _none_left(self) -> bool:
        return self._stopped or self._begun == self._batches

    def _shrinks(self, batch: int) -> None:
        if batch in self._growing:
            self._growing.remove(batch)
            self._changed.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._stopped or until())
