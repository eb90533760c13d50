"""The probes in batches, each measured by the plan and added up, by one thread or several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from analyze.gradients.costs.choice import Choice
from analyze.gradients.data.batches import Batch, batches
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.device.devices import most_segments, moves_by_itself
from analyze.gradients.device.memory import Memory
from analyze.gradients.device.timing import Clock
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import Plan
from analyze.gradients.step.along import Along
from analyze.gradients.step.batch import measure_batch
from analyze.gradients.step.result import BatchResult, TakeTotals
from analyze.gradients.threads.order import BatchOrder
from analyze.gradients.threads.sharing import at_once


class Adding(Protocol):
    """What takes the batches' results."""

    def taking(self, batch: Batch) -> TakeTotals:
        """A function that adds the totals of a batch, each when it is there."""

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add what a batch gave besides its totals."""

    def finish(self) -> None:
        """Called once all batches have been added."""


class ProbeBatches:
    """The examples at the rows of each cell, as many at a time as memory holds.

    A batch has at least ``smallest``.
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        loader: ProbeLoader,
        loss: Loss,
        memory: Memory,
        smallest: int = 1,
    ) -> None:
        self._rows = rows
        self._loader = loader
        self._loss = loss
        self._memory = memory
        self._smallest = smallest

    def of_all(self, replica: Replica) -> list[Batch]:
        """The batches of all examples, in order."""
        return self._cut(replica)

    def first(self, replica: Replica, size: int | None = None) -> Batch:
        """The first batch, of another size if there is one."""
        return self._cut(replica, size)[0]

    def measured(
        self,
        replica: Replica,
        plan: Plan,
        batch: Batch,
        clock: Clock | None = None,
        choice: Choice | None = None,
        along: Along | None = None,
    ) -> BatchResult:
        """The result of ``measure_batch`` for a batch, with its errors."""
        examples = self._loader.take(batch.rows)
        return measure_batch(
            replica, *examples, self._loss, plan, batch.segments, clock, None, choice, along
        )

    def time(
        self,
        replica: Replica,
        plan: Plan,
        batch: Batch,
        passes: Sequence[Along | None],
        clock: Clock | None,
    ) -> None:
        """Measure a batch in each pass, to see by the clock what that takes."""
        for along in passes:
            self.measured(replica, plan, batch, clock, None, along)

    def add_up(
        self,
        replicas: Sequence[Replica],
        plan: Plan,
        adding: Adding,
        batches: Sequence[Batch],
        advance: Callable[[int], None],
        along: Along | None = None,
    ) -> None:
        """Measure and add up batches: the same to the bit by several threads, a replica each.

        Several threads are for a CPU only. ``adding`` is worth nothing if this fails. ``advance``
        gets how many examples each batch had, from whatever thread; on a GPU when the next batch
        is on its way. ``along`` has directions that each example's gradient is multiplied with.
        """
        rows = (batch.rows for batch in batches)
        examples = self._loader.ahead(rows, self._memory.device, replicas[0].dtype)
        order = BatchOrder(plan.order, zip(batches, examples, strict=True))
        # Whoever reads a batch of a GPU waits for it: best while there is another to be computed.
        ahead = 1 if moves_by_itself(self._memory.device) else 0

        def add(batch: Batch, result: BatchResult) -> None:
            adding.add(batch, result)
            advance(len(batch.rows))

        def measure(replica: Replica) -> None:
            coming: deque[Callable[[], None]] = deque()  # results that are yet to be read
            for number, (batch, examples) in order.next_ones():
                take = order.taking(number, adding.taking(batch))
                result = measure_batch(
                    replica, *examples, self._loss, plan, batch.segments, None, take, None, along
                )
                order.summed(number)
                coming.append(partial(order.finish, number, partial(add, batch, result)))
                del result
                if len(coming) > ahead:
                    coming.popleft()()
            for finish in coming:
                finish()

        at_once([partial(measure, replica) for replica in replicas], order.stop)
        adding.finish()

    def _cut(self, replica: Replica, size: int | None = None) -> list[Batch]:
        most = most_segments(self._memory.device, replica.values)
        return batches(self._rows, max(self._smallest, size or self._memory.batch_size), most)
