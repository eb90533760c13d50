"""The probes in batches, and what the plan finds in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from analyze.gradients.accumulation import Accumulation
from analyze.gradients.batch import BatchResult, measure_batch
from analyze.gradients.batches import Batch, batches, in_shares
from analyze.gradients.devices import most_parts
from analyze.gradients.loader import ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.memory import Memory
from analyze.gradients.plan import Plan
from analyze.gradients.replica import Replica
from analyze.gradients.timing import Clock
from analyze.probes import Cells


class ProbeBatches:
    """The examples of all cells, as many at a time as memory holds.

    Args:
        cells: Of the probe set.
        loader: Of its examples.
        loss: Of one of them.
        memory: Says where batches are computed, and how large they are at the moment.
    """

    def __init__(self, cells: Cells, loader: ProbeLoader, loss: Loss, memory: Memory) -> None:
        self._rows = [cells.rows(cell) for cell in range(len(cells))]
        self._loader = loader
        self._loss = loss
        self._memory = memory

    def in_shares(self, replica: Replica, shares: int) -> list[list[Batch]]:
        """The batches of each share of the examples, in order."""
        return [list(self._cut(replica, own)) for own in in_shares(self._rows, shares)]

    def first(self, replica: Replica, size: int | None = None) -> Batch:
        """The first one, of another size if one is given."""
        return next(self._cut(replica, self._rows, size))

    def measured(
        self, replica: Replica, plan: Plan, batch: Batch, clock: Clock | None = None
    ) -> BatchResult:
        """What ``measure_batch`` finds in one, which says what may go wrong."""
        examples = self._loader.take(batch.rows)
        return measure_batch(replica, *examples, self._loss, plan, batch.parts, clock)

    def add_up(
        self,
        replica: Replica,
        plan: Plan,
        own: Sequence[Batch],
        adding: Accumulation,
        told: Callable[[int], None],
    ) -> None:
        """Measure some of them, each added up while the next one is on its way.

        Args:
            replica: The model.
            plan: By which.
            own: The batches, in order.
            adding: Gets what is found.
            told: Gets how many examples each batch had.
        """
        coming = self._loader.ahead((b.rows for b in own), self._memory.device, replica.dtype)
        for batch, examples in zip(own, coming, strict=True):
            take = adding.taking(batch)
            result = measure_batch(replica, *examples, self._loss, plan, batch.parts, None, take)
            adding.add(batch, result)
            told(len(batch.rows))
        adding.finish()

    def _cut(
        self, replica: Replica, rows: Sequence[np.ndarray], size: int | None = None
    ) -> Iterator[Batch]:
        most = most_parts(self._memory.device, replica.values)
        return batches(rows, size or self._memory.batch_size, most)
