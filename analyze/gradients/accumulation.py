"""What is added up over the batches of some examples, and the shares of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from analyze.gradients.batch import BatchResult, TakeTotals
from analyze.gradients.batches import Batch
from analyze.gradients.cell_sums import CellSums
from analyze.gradients.room import Room


@dataclass
class Accumulated:
    """Of some examples, n of them: all but the cells' sums. P parameters, C cells.

    Args:
        rows: ``[n]``, which of the probe set.
        squared_norms: ``[P, C]``, summed over each cell.
        reached: ``[P]``, whether a gradient was there.
        bad: ``[P, C]``, how many squared norms are not finite.
        loss: ``[n]``.
        accuracy: ``[n]``.
        examples: ``[P, n]``, each one's squared norms, or None.
        algorithms: Of the plan, with those that were chosen meanwhile.
    """

    rows: np.ndarray
    squared_norms: np.ndarray
    reached: np.ndarray
    bad: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    examples: np.ndarray | None
    algorithms: dict[str, str]


class Accumulation:
    """Adds up the batches of some examples.

    Args:
        names: P parameters.
        cells: C.
        batches: All that will be added, in order.
        examples: Whether to keep every example's squared norms.
        algorithms: Of the plan, to which the engine adds.
        room: Where the cells' sums are held.
        device: Of the batches.
    """

    def __init__(
        self,
        names: Sequence[str],
        cells: int,
        batches: Sequence[Batch],
        examples: bool,
        algorithms: dict[str, str],
        room: Room,
        device: torch.device,
    ) -> None:
        rows = np.concatenate([batch.rows for batch in batches])
        self._row = {name: k for k, name in enumerate(names)}
        self._done = 0
        self.found = Accumulated(
            rows,
            np.zeros((len(names), cells)),
            np.zeros(len(names), dtype=bool),
            np.zeros((len(names), cells), dtype=int),
            np.empty(len(rows)),
            np.empty(len(rows)),
            np.zeros((len(names), len(rows))) if examples else None,
            algorithms,
        )
        self.sums = CellSums(cells_of(batches), room, device)

    def taking(self, batch: Batch) -> TakeTotals:
        """Adds the totals of the next batch, each when it is there."""
        return partial(self.sums.add, batch.cells.tolist())

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add what else the next batch gave."""
        found = self.found
        here = slice(self._done, self._done + len(batch.rows))
        self._done = here.stop
        found.loss[here], found.accuracy[here] = result.losses.numpy(), result.accuracy.numpy()
        if result.scaled_squares:
            norms = result.all_squared_norms()
            own = np.array([self._row[name] for name in result.scaled_squares])
            found.squared_norms[np.ix_(own, batch.cells)] += batch.sums(norms)
            found.bad[np.ix_(own, batch.cells)] += batch.sums((~np.isfinite(norms)).astype(int))
            found.reached[own] = True
            if found.examples is not None:
                found.examples[own, here] = norms

    def finish(self) -> None:
        """All batches have been added."""
        self.sums.finish()


def cells_of(batches: Sequence[Batch]) -> range:
    """From the first to the last cell that has examples in some batches, which are in order."""
    return range(batches[0].pieces[0].cell, batches[-1].pieces[-1].cell + 1)


def together(shares: Sequence[Accumulated]) -> Accumulated:
    """All shares as one, whose rows are in the order of the probe set."""
    rows = np.concatenate([share.rows for share in shares])
    order = np.argsort(rows)
    examples = [share.examples for share in shares if share.examples is not None]
    return Accumulated(
        rows[order],
        np.sum([share.squared_norms for share in shares], axis=0),
        np.any([share.reached for share in shares], axis=0),
        np.sum([share.bad for share in shares], axis=0),
        np.concatenate([share.loss for share in shares])[order],
        np.concatenate([share.accuracy for share in shares])[order],
        np.concatenate(examples, axis=1)[:, order] if examples else None,
        {call: chosen for share in reversed(shares) for call, chosen in share.algorithms.items()},
    )
