"""The probes in batches: cell after cell, as many examples as a batch holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from analyze.gradients.data.segments import Segments


class BatchShape(NamedTuple):
    """What a batch of a run is like, by which algorithms are chosen for all of its batches."""

    examples: int
    segments: int = 1  # cells that it has examples of
    threads: int = 1  # that compute it together


@dataclass(frozen=True)
class CellRows:
    """The examples of one cell in a batch."""

    cell: int
    rows: np.ndarray  # of the probe set


@dataclass(frozen=True)
class Batch:
    """Examples of one cell or several, in the order of the cells; no cell comes twice."""

    by_cell: tuple[CellRows, ...]

    @cached_property
    def rows(self) -> np.ndarray:
        """The examples' rows of the probe set, ``[N]``."""
        return np.concatenate([of_cell.rows for of_cell in self.by_cell])

    @cached_property
    def cells(self) -> np.ndarray:
        """The cell of each segment, ``[S]``."""
        return np.array([of_cell.cell for of_cell in self.by_cell])

    @cached_property
    def segments(self) -> Segments:
        """Where the examples of each cell lie in the batch."""
        return Segments([len(of_cell.rows) for of_cell in self.by_cell])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values ``[P, N]`` added up over each segment, ``[P, S]``."""
        starts = [first for first, _ in self.segments.bounds]
        return np.add.reduceat(values, starts, axis=1)


def batches(cells: Sequence[np.ndarray], size: int, most: int) -> list[Batch]:
    """All examples, from the rows of each cell, in batches of ``size`` examples but for the last.

    A batch ends early where it has ``most`` cells. An example that would be left alone gets the one
    before it as a mate: torch's backward pass is wrong for a batch of one, for some models.
    """
    full = list(_full(cells, size, most))
    # Where batches may have several cells or examples, no batch but the last has a single one.
    if most > 1 and len(full) > 1 and len(full[-1].rows) == 1 and len(full[-2].rows) > 2:
        full[-2:] = _with_a_mate(*full[-2:])
    return full


def _with_a_mate(before: Batch, alone: Batch) -> tuple[Batch, Batch]:
    """Two batches, the last example of the first moved to the second."""
    *others, last = before.by_cell
    kept, moved = CellRows(last.cell, last.rows[:-1]), CellRows(last.cell, last.rows[-1:])
    (single,) = alone.by_cell
    mates: tuple[CellRows, ...] = (moved, single)
    if moved.cell == single.cell:
        mates = (CellRows(single.cell, np.concatenate([moved.rows, single.rows])),)
    left = (*others, kept) if len(kept.rows) else tuple(others)
    return Batch(left), Batch(mates)


def _full(cells: Sequence[np.ndarray], size: int, most: int) -> Iterator[Batch]:
    """Full batches, but for those with too many cells and the last."""
    by_cell: list[CellRows] = []
    room = size
    for cell, rows in enumerate(cells):
        done = 0
        while done < len(rows):
            some = rows[done : done + room]
            by_cell.append(CellRows(cell, some))
            done, room = done + len(some), room - len(some)
            if room == 0 or len(by_cell) == most:
                yield Batch(tuple(by_cell))
                by_cell, room = [], size
    if by_cell:
        yield Batch(tuple(by_cell))
