"""The batches of a probe set, added up to the sufficient statistics."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from analyze.gradients.data.batches import Batch
from analyze.gradients.measurement import Measurement
from analyze.gradients.step.result import BatchResult, TakeTotals
from analyze.gradients.sums.cell_sums import CellSums, gram_matrices
from analyze.gradients.sums.observation import Observation


class Accumulation:
    """Adds up the batches of N probes, P parameters, C cells.

    ``loss`` and ``accuracy`` are ``[N]``; ``bad`` is ``[P, C]``, the number of squared norms that
    are not finite. ``keep`` says whether to keep every example's squared norms.
    """

    def __init__(self, probes: int, keep: bool, sums: CellSums, seen: Observation) -> None:
        size = len(sums.shapes), sums.cells
        self.loss, self.accuracy = np.empty(probes), np.empty(probes)
        self.bad = np.zeros(size, dtype=int)
        self.seen = seen
        self._sums = sums
        self._row = {name: k for k, name in enumerate(sums.shapes)}
        self._squared_norms = np.zeros(size)
        self._examples = np.zeros((size[0], probes)) if keep else None

    def taking(self, batch: Batch) -> TakeTotals:
        """A function that adds the totals of a batch, each when it is there."""
        return partial(self._sums.add, batch.cells.tolist())

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add what a batch gave besides its totals."""
        self.seen.add(batch, result)
        self.loss[batch.rows] = result.losses
        self.accuracy[batch.rows] = result.accuracy
        norms = result.squared_norms
        parameters = np.array([self._row[name] for name in result.names], dtype=int)
        sums = np.ix_(parameters, batch.cells)
        self._squared_norms[sums] += batch.sums(norms)
        self.bad[sums] += batch.sums((~np.isfinite(norms)).astype(int))
        if self._examples is not None:
            self._examples[np.ix_(parameters, batch.rows)] = norms

    def finish(self) -> None:
        """Write the last cells' sums, once all batches have been added."""
        self._sums.finish()

    def measurement(self, device: torch.device) -> Measurement:
        """The sufficient statistics; NaN for a parameter that no example has a gradient of."""
        products = gram_matrices(self._sums, device)
        gram = np.full((*self.bad.shape, self._sums.cells), np.nan)
        squared_norms = np.full(self.bad.shape, np.nan)
        for name, gram_matrix in products.items():
            row = self._row[name]
            gram[row], squared_norms[row] = gram_matrix, self._squared_norms[row]
        names = tuple(self._sums.shapes)
        return Measurement(names, gram, squared_norms, self.loss, self.accuracy, self._examples)
