"""The probes in batches: cell after cell, as many examples as a batch holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analyze.gradients.data.parts import Parts


@dataclass(frozen=True)
class Piece:
    """Examples of one cell in a batch.

    Args:
        cell: Its number.
        rows: Of the probe set.
    """

    cell: int
    rows: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Pieces of one cell or several, in the order of the cells."""

    pieces: tuple[Piece, ...]

    @cached_property
    def rows(self) -> np.ndarray:
        """``[N]``, of the probe set."""
        return np.concatenate([piece.rows for piece in self.pieces])

    @cached_property
    def cells(self) -> np.ndarray:
        """``[S]``, the cell of each piece; no cell has two."""
        return np.array([piece.cell for piece in self.pieces])

    @cached_property
    def parts(self) -> Parts:
        """The pieces, as the engine's sums know them."""
        return Parts([len(piece.rows) for piece in self.pieces])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """``[P, N]`` to ``[P, S]``: added up over each piece."""
        starts = [first for first, _ in self.parts.bounds]
        return np.add.reduceat(values, starts, axis=1)


def batches(cells: Sequence[np.ndarray], size: int, most: int) -> Iterator[Batch]:
    """All examples of all cells, cell after cell: full batches, but for the last one.

    An example that would be left alone gets the one before it as a mate: torch's backward pass is
    wrong for a batch of one, for some models.

    Args:
        cells: Rows of each cell; none where a cell is empty.
        size: Examples of a batch.
        most: Pieces of a batch, which ends early where it has so many.
    """
    before: Batch | None = None
    for batch in _full(cells, size, most):
        kept, here = before, batch
        if kept is not None and most > 1 and len(batch.rows) == 1 and len(kept.rows) > 2:
            kept, here = _with_a_mate(kept, batch)
        if kept is not None:
            yield kept
        before = here
    if before is not None:
        yield before


def _with_a_mate(before: Batch, alone: Batch) -> tuple[Batch, Batch]:
    """The last example of a batch goes to the one after it."""
    *others, last = before.pieces
    kept, moved = Piece(last.cell, last.rows[:-1]), Piece(last.cell, last.rows[-1:])
    (single,) = alone.pieces
    pieces: tuple[Piece, ...] = (moved, single)
    if moved.cell == single.cell:
        pieces = (Piece(single.cell, np.concatenate([moved.rows, single.rows])),)
    left = (*others, kept) if len(kept.rows) else tuple(others)
    return Batch(left), Batch(pieces)


def _full(cells: Sequence[np.ndarray], size: int, most: int) -> Iterator[Batch]:
    """Full batches, but for those with too many pieces and the last."""
    pieces: list[Piece] = []
    room = size
    for cell, rows in enumerate(cells):
        done = 0
        while done < len(rows):
            own = rows[done : done + room]
            pieces.append(Piece(cell, own))
            done, room = done + len(own), room - len(own)
            if room == 0 or len(pieces) == most:
                yield Batch(tuple(pieces))
                pieces, room = [], size
    if pieces:
        yield Batch(tuple(pieces))
