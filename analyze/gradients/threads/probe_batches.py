"""The probes in batches, and what the plan finds in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from analyze.gradients.data.batches import Batch, batches
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.device.devices import most_parts
from analyze.gradients.device.memory import Memory
from analyze.gradients.device.timing import Clock
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import Plan
from analyze.gradients.step.batch import measure_batch
from analyze.gradients.step.result import BatchResult
from analyze.gradients.sums.accumulation import Accumulation
from analyze.gradients.threads.order import BatchOrder
from analyze.gradients.threads.sharing import at_once
from analyze.probes import Cells


class ProbeBatches:
    """The examples of all cells, as many at a time as memory holds.

    Args:
        cells: Of the probe set.
        loader: Of its examples.
        loss: Of one of them.
        memory: Says where batches are computed, and how large they are.
        smallest: Examples that a batch must have.
    """

    def __init__(
        self, cells: Cells, loader: ProbeLoader, loss: Loss, memory: Memory, smallest: int = 1
    ) -> None:
        self._rows = [cells.rows(cell) for cell in range(len(cells))]
        self._loader = loader
        self._loss = loss
        self._memory = memory
        self._smallest = smallest

    def of_all(self, replica: Replica) -> list[Batch]:
        """Of all examples, in order."""
        return list(self._cut(replica, self._rows))

    def first(self, replica: Replica, size: int | None = None) -> Batch:
        """The first one, of another size if one is given."""
        return next(self._cut(replica, self._rows, size))

    def measured(
        self, replica: Replica, plan: Plan, batch: Batch, clock: Clock | None = None
    ) -> BatchResult:
        """What ``measure_batch`` finds in one, which says what may go wrong."""
        examples = self._loader.take(batch.rows)
        return measure_batch(replica, *examples, self._loss, plan, batch.segments, clock)

    def add_up(
        self,
        replicas: Sequence[Replica],
        plan: Plan,
        adding: Accumulation,
        told: Callable[[int], None],
    ) -> None:
        """Measure all of them and add up what they give: the same to the bit by several threads.

        Args:
            replicas: Of the model, one for each thread; several only on a CPU.
            plan: By which.
            adding: Gets what each batch gives; worth nothing if this fails.
            told: Gets how many examples each batch had, from whatever thread.
        """
        batches = self.of_all(replicas[0])
        rows = (batch.rows for batch in batches)
        examples = self._loader.ahead(rows, self._memory.device, replicas[0].dtype)
        order = BatchOrder(plan.order, zip(batches, examples, strict=True))

        def add(batch: Batch, result: BatchResult) -> None:
            adding.add(batch, result)
            told(len(batch.rows))

        def measure(replica: Replica) -> None:
            for number, (batch, examples) in order.next_ones():
                take = order.taking(number, adding.taking(batch))
                result = measure_batch(
                    replica, *examples, self._loss, plan, batch.segments, None, take
                )
                order.finish(number, partial(add, batch, result))

        at_once([partial(measure, replica) for replica in replicas], order.stop)
        adding.finish()

    def _cut(
        self, replica: Replica, rows: Sequence[np.ndarray], size: int | None = None
    ) -> Iterator[Batch]:
        most = most_parts(self._memory.device, replica.values)
        return batches(rows, max(self._smallest, size or self._memory.batch_size), most)
