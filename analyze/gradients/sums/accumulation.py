"""What is added up over the batches of a probe set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from analyze.gradients.data.batches import Batch
from analyze.gradients.step.result import OfExamples, TakeTotals
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.observation import Observation


@dataclass
class Accumulated:
    """Of n examples: all but the cells' sums. P parameters, C cells.

    Args:
        squared_norms: ``[P, C]``, summed over each cell.
        reached: ``[P]``, whether a gradient was there.
        bad: ``[P, C]``, how many squared norms are not finite.
        loss: ``[n]``.
        accuracy: ``[n]``.
        examples: ``[P, n]``, each one's squared norms, or None.
    """

    squared_norms: np.ndarray
    reached: np.ndarray
    bad: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    examples: np.ndarray | None


class Accumulation:
    """Adds up batches.

    Args:
        examples: How many there are, all of which will be added.
        keep: Whether to keep every example's squared norms.
        sums: Gets the gradient sums.
        seen: Gets what is kept of single examples.
    """

    def __init__(self, examples: int, keep: bool, sums: CellSums, seen: Observation) -> None:
        self._row = {name: k for k, name in enumerate(sums.shapes)}
        size = len(self._row), sums.cells
        self.found = Accumulated(
            np.zeros(size),
            np.zeros(len(self._row), dtype=bool),
            np.zeros(size, dtype=int),
            np.empty(examples),
            np.empty(examples),
            np.zeros((len(self._row), examples)) if keep else None,
        )
        self.sums = sums
        self.seen = seen

    def taking(self, batch: Batch) -> TakeTotals:
        """Adds the totals of a batch, each when it is there."""
        return partial(self.sums.add, batch.cells.tolist())

    def add(self, batch: Batch, given: OfExamples) -> None:
        """Add what else a batch gave."""
        found, rows = self.found, batch.rows
        self.seen.add(batch, given)
        found.loss[rows], found.accuracy[rows] = given.losses, given.accuracy
        norms = given.squared_norms
        own = np.array([self._row[name] for name in given.names], dtype=int)
        found.squared_norms[np.ix_(own, batch.cells)] += batch.sums(norms)
        found.bad[np.ix_(own, batch.cells)] += batch.sums((~np.isfinite(norms)).astype(int))
        found.reached[own] = True
        if found.examples is not None:
            found.examples[np.ix_(own, rows)] = norms

    def finish(self) -> None:
        """All batches have been added."""
        self.sums.finish()
