"""Turns that threads take with the batches of one model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from torch import Tensor

from analyze.gradients.step.result import TakeTotals

# Of a batch's time, after which it counts as shrinking. Later, and threads wait for each other
# wherever one batch takes a little longer than another; earlier, and they hold more (ADR 20).
GROWING = 0.46
FORWARD = 1 / 3  # of a batch's time, about: where none is done yet


class Turns:
    """Which thread may do what with which batch.

    **Sums are those of one thread, to the bit**: batches are added to each in their order. Whoever
    has a batch waits, parameter by parameter, until the one before has been added; that one is
    always in work or done, as batches are begun in order.

    **Not all batches are at their largest at once**: what a batch holds grows in its forward pass
    and shrinks in its backward pass, and only half of the threads may have one that grows. Which
    parameter it reaches when it no longer does is learnt from the batches before.

    Args:
        names: Of the parameters, about in the order in which a forward pass meets them.
        batches: How many there are, numbered from 0.
        threads: How many take turns.
    """

    def __init__(self, names: Sequence[str], batches: int, threads: int) -> None:
        self._changed = threading.Condition()
        self._added = dict.fromkeys(names, 0)  # batches
        way_back = (GROWING - FORWARD) / (1 - FORWARD)
        self._shrinking = frozenset(names[: round((1 - way_back) * len(names))])
        self._began: dict[int, float] = {}  # when each batch in work did
        self._added_at: dict[int, dict[str, float]] = {}  # and when its totals of each parameter
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
            self._began[number] = time.perf_counter()
            self._added_at[number] = {}
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
                self._added_at[batch][name] = time.perf_counter()
                self._changed.notify_all()

        return taken

    def end(self, batch: int) -> None:
        """A batch is done: what it had no gradient of counts as added, too."""
        ended = time.perf_counter()
        with self._changed:
            self._shrinks(batch)
            self._wait(lambda: min(self._added.values()) >= batch)
            if self._stopped:
                return
            self._learn(batch, ended)
            self._added = {name: max(done, batch + 1) for name, done in self._added.items()}
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody waits any more, and no batch is begun: what was added up is worth nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _none_left(self) -> bool:
        return self._stopped or self._begun == self._batches

    def _learn(self, batch: int, ended: float) -> None:
        """From a batch that is done, when the next ones will shrink."""
        began, added_at = self._began.pop(batch), self._added_at.pop(batch)
        shrinks_at = began + GROWING * (ended - began)
        if added_at:
            self._shrinking = frozenset(n for n, at in added_at.items() if at >= shrinks_at)

    def _shrinks(self, batch: int) -> None:
        if batch in self._growing:
            self._growing.remove(batch)
            self._changed.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._stopped or until())
