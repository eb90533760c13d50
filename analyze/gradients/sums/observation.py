"""Records of single examples, kept while the batches are added up.

Examples chosen before keep all numbers that they are compared by later. Each parameter keeps the
example that shows most of it, by which a verdict on the parameter is overturned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyze.gradients.data.batches import Batch
from analyze.gradients.step.result import BatchResult

APART = 32  # one in so many probes is measured again elsewhere; fewer are a small batch
COMPLETE = 0.5  # seconds that one probe of every batch may take, however small the batches are
TWICE = 0.2  # seconds that two probes of every batch may take


@dataclass(frozen=True)
class Watch:
    """The probes that are measured again, and the batches in which they stand.

    Those of ``elsewhere`` may be measured again in another company. The first of them are one of
    each batch, the others another one of each small batch.
    """

    batches: Sequence[Batch]  # of all probes, in order
    elsewhere: np.ndarray  # rows, in the order of their turn
    first: int  # number of batches
    alone: np.ndarray  # rows of those that may be compared with plain autograd, in that order

    @property
    def rows(self) -> np.ndarray:
        """Rows of all watched probes, in order."""
        return np.union1d(self.elsewhere, self.alone)

    @property
    def examples(self) -> int:
        """The number of all probes."""
        return sum(len(batch.rows) for batch in self.batches)

    def companies(self, size: int, seconds: float) -> list[np.ndarray]:
        """Batches of those that are measured again; one that would be alone has another watched.

        Of each batch one is taken, as far as they take a thirty-second of the ``seconds`` that all
        probes take, or half a second; of each small batch two where they take a fifth of a second.
        """
        each = seconds / self.examples
        count = self.first
        if self.first * each > COMPLETE:
            count = max(1, min(count, self.examples // APART))
        if len(self.elsewhere) * each <= TWICE:
            count = len(self.elsewhere)
        rows = self.elsewhere[:count]
        batches = np.array_split(np.sort(rows), -(-len(rows) // size))
        return [
            np.union1d(batch, self.alone[self.alone != batch[0]][:1]) if len(batch) == 1 else batch
            for batch in batches
        ]

    def company(self, row: int) -> np.ndarray:
        """Rows of the batch in which a probe stands."""
        return next(batch.rows for batch in self.batches if row in batch.rows)


def watch(batches: Sequence[Batch], alone: int, draws: np.random.Generator) -> Watch:
    """Probes chosen at random, ``alone`` of them for comparison with plain autograd."""
    first: list[np.ndarray] = []
    more: list[np.ndarray] = []
    for k in draws.permutation(len(batches)):
        rows = draws.permutation(batches[k].rows)
        first.append(rows[:1])
        more.append(rows[1:2] if len(rows) < APART else rows[:0])
    rows = np.concatenate([batch.rows for batch in batches])
    lonely = draws.permutation(rows)[:alone]
    leading = np.concatenate(first)
    return Watch(batches, np.concatenate([leading, *more]), len(leading), lonely)


class Observation:
    """The numbers of the watched probes, and the strongest probe of each of P parameters."""

    def __init__(self, names: Sequence[str], watched: Watch) -> None:
        self.names = tuple(names)
        self.watched = watched
        self.rows = watched.rows
        self.squared_norms = np.zeros((len(names), len(self.rows)))
        self.network = np.zeros(len(self.rows))
        self.losses = np.full(len(self.rows), np.nan)
        self.strongest = np.full(len(names), -1)  # row of the probe, -1 where none has a gradient
        self.share = np.zeros(
            len(names)
        )  # the strongest probe's, of the network's squared gradient
        self._place = {name: k for k, name in enumerate(names)}

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Keep what a batch shows."""
        parameters = np.array([self._place[name] for name in result.names], dtype=int)
        norms = result.squared_norms
        network = norms.sum(0)
        at, in_batch = self._at(batch.rows)
        self.losses[at] = result.losses[in_batch]
        self.network[at] = network[in_batch]
        if not len(parameters):
            return
        self.squared_norms[np.ix_(parameters, at)] = norms[:, in_batch]
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.nan_to_num(norms / network, nan=0.0, posinf=0.0)
        strongest = shares.argmax(1)
        share = shares[np.arange(len(parameters)), strongest]
        more = share > self.share[parameters]
        self.share[parameters[more]] = share[more]
        self.strongest[parameters[more]] = batch.rows[strongest[more]]

    def include(self, other: Observation, rows: np.ndarray) -> None:
        """Add what another rank's batches showed, of the probes at ``rows``; they come later."""
        at, _ = self._at(rows)
        self.losses[at], self.network[at] = other.losses[at], other.network[at]
        self.squared_norms[:, at] = other.squared_norms[:, at]
        more = other.share > self.share
        self.share[more], self.strongest[more] = other.share[more], other.strongest[more]

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses ``[K]``, squared norms ``[P, K]`` and the network's ``[K]`` of watched probes."""
        at = np.searchsorted(self.rows, rows)
        return self.losses[at], self.squared_norms[:, at], self.network[at]

    def _at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the watched rows among all watched ones, and among ``rows``."""
        places = np.flatnonzero(np.isin(rows, self.rows))
        return np.searchsorted(self.rows, rows[places]), places
