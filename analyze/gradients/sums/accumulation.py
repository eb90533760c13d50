"""The batches of a probe set, added up to the sufficient statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from analyze.gradients.data.batches import Batch
from analyze.gradients.measurement import Measurement
from analyze.gradients.step.result import BatchResult, TakeTotals
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.directions import Alignments
from analyze.gradients.sums.observation import Observation
from analyze.gradients.sums.part import Part


class Accumulation:
    """Adds up the batches of N probes, P parameters, C cells.

    ``loss``, ``accuracy`` and ``margin`` are ``[N]``; ``bad`` is ``[P, C]``, the number of squared
    norms that are not finite. ``keep`` says whether to keep every example's squared norms.
    The ``sums`` are those of the cells that are ``held``: of all, or of those that one rank's
    batches have. ``alignments`` gets what the batches give along directions, those of the
    ``numbers``.
    """

    def __init__(
        self,
        probes: int,
        cells: int,
        held: range,
        keep: bool,
        sums: CellSums,
        seen: Observation,
        alignments: Alignments | None = None,
        numbers: Iterable[int] = (),
    ) -> None:
        size = len(sums.shapes), cells
        self.held = held
        self.drew = False  # whether random numbers were drawn meanwhile
        self._rows: list[np.ndarray] = []  # of the batches
        self.loss, self.accuracy, self.margin = (np.empty(probes) for _ in range(3))
        self.alignments = alignments
        self._numbers = list(numbers)
        self.bad = np.zeros(size, dtype=int)
        self.seen = seen
        self.sums = sums
        self._row = {name: k for k, name in enumerate(sums.shapes)}
        self._squared_norms = np.zeros(size)
        self._examples = np.zeros((size[0], probes)) if keep else None

    def taking(self, batch: Batch) -> TakeTotals:
        """A function that adds the totals of a batch, each when it is there."""
        return partial(self.sums.add, (batch.cells - self.held.start).tolist())

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add what a batch gave besides its totals."""
        self.seen.add(batch, result)
        self._rows.append(batch.rows)
        self.loss[batch.rows] = result.losses
        self.accuracy[batch.rows] = result.accuracy
        self.margin[batch.rows] = result.margin
        if self.alignments is not None and self._numbers:
            self.alignments.add(self._numbers, batch, result)
        norms = result.squared_norms
        parameters = np.array([self._row[name] for name in result.names], dtype=int)
        sums = np.ix_(parameters, batch.cells)
        self._squared_norms[sums] += batch.sums(norms)
        self.bad[sums] += batch.sums((~np.isfinite(norms)).astype(int))
        if self._examples is not None:
            self._examples[np.ix_(parameters, batch.rows)] = norms

    def finish(self) -> None:
        """Write the last cells' sums, once all batches have been added."""
        self.sums.finish()

    def part(self) -> Part:
        """What was added besides the sums, for the rank that joins the parts."""
        rows = np.concatenate([*self._rows, np.empty(0, dtype=np.int64)])
        values = {name: self.sums.rows(name).shape[1] for name in self.sums.names}
        examples = None if self._examples is None else self._examples[:, rows]
        return Part(
            rows, self.loss[rows], self.accuracy[rows], examples, self._squared_norms, self.bad,
            self.seen, self.held, values, self.drew,
        )  # fmt: skip

    def include(self, part: Part) -> None:
        """Add another rank's part, whose batches come after those that were added before."""
        self.loss[part.rows], self.accuracy[part.rows] = part.loss, part.accuracy
        if self._examples is not None:
            self._examples[:, part.rows] = part.examples
        self._squared_norms += part.squared_norms
        self.bad += part.bad
        self.seen.include(part.seen, part.rows)
        self.drew = self.drew or part.drew

    def measurement(self, products: Mapping[str, np.ndarray]) -> Measurement:
        """The sufficient statistics, with the Gram matrices of the parameters that have them.

        They are NaN for a parameter that no example has a gradient of.
        """
        gram = np.full((*self.bad.shape, self.bad.shape[1]), np.nan)
        squared_norms = np.full(self.bad.shape, np.nan)
        for name, gram_matrix in products.items():
            row = self._row[name]
            gram[row], squared_norms[row] = gram_matrix, self._squared_norms[row]
        names, along = tuple(self.sums.shapes), self.alignments
        return Measurement(
            names, gram, squared_norms, self.loss, self.accuracy, self._examples,
            alignment=None if along is None else along.values,
            direction_squares=None if along is None else along.squares,
            margin=None if along is None else self.margin,
        )  # fmt: skip
