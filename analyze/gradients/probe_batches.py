"""The probes in batches, and what the plan finds in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from analyze.gradients.accumulation import Accumulation
from analyze.gradients.batch import BatchResult, OfExamples, measure_batch
from analyze.gradients.batches import Batch, batches
from analyze.gradients.devices import most_parts
from analyze.gradients.loader import ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.memory import Memory
from analyze.gradients.plan import Plan
from analyze.gradients.replica import Replica
from analyze.gradients.sharing import in_turns
from analyze.gradients.timing import Clock
from analyze.gradients.turns import Turns
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
        return measure_batch(replica, *examples, self._loss, plan, batch.parts, clock)

    def add_up(
        self, replica: Replica, plan: Plan, adding: Accumulation, told: Callable[[int], None]
    ) -> None:
        """Measure all of them, each added up while the next one is on its way.

        Args:
            replica: The model.
            plan: By which.
            adding: Gets what is found.
            told: Gets how many examples each batch had.
        """
        own = self.of_all(replica)
        coming = self._loader.ahead((b.rows for b in own), self._memory.device, replica.dtype)
        for batch, examples in zip(own, coming, strict=True):
            take = adding.taking(batch)
            result = measure_batch(replica, *examples, self._loss, plan, batch.parts, None, take)
            adding.add(batch, result.of_examples())
            told(len(batch.rows))
        adding.finish()

    def add_up_in_forks(
        self,
        replica: Replica,
        plan: Plan,
        adding: Accumulation,
        told: Callable[[int], None],
        forks: int,
    ) -> bool:
        """The same to the bit by so many forks, on a CPU, where sums are in memory they share.

        Returns:
            Whether they did it all. What was added up is worth nothing if not.
        """
        own, known = self.of_all(replica), len(plan.algorithms)

        def measured(number: int, turns: Turns) -> tuple[OfExamples, dict[str, str]]:
            batch = own[number]
            examples = self._loader.take(batch.rows)
            take = turns.in_order(number, adding.taking(batch))
            result = measure_batch(replica, *examples, self._loss, plan, batch.parts, None, take)
            chosen = dict([*plan.algorithms.items()][known:])
            return result.of_examples(), chosen

        def add(number: int, found: tuple[OfExamples, dict[str, str]]) -> None:
            given, chosen = found
            adding.add(own[number], given)
            plan.algorithms.update(chosen | plan.algorithms)
            told(len(own[number].rows))

        turns = Turns(list(replica.parameters))
        if not in_turns(measured, len(own), turns, forks, add):
            return False
        adding.finish()
        return True

    def _cut(
        self, replica: Replica, rows: Sequence[np.ndarray], size: int | None = None
    ) -> Iterator[Batch]:
        most = most_parts(self._memory.device, replica.values)
        return batches(rows, size or self._memory.batch_size, most)
