"""What all measurements of an engine use, whatever the model: probes, loss and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

import numpy as np

from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.device.memory import Memory
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Settings
from analyze.gradients.step.batch_norm import BatchNormStatistics
from analyze.gradients.threads.probe_batches import ProbeBatches
from analyze.probes import Cells, ProbeSet
from analyze.probes.directions import directions_of
from analyze.probes.facts import repeated_inputs

LOOKED_AT = 1024  # probes among which extremes are looked for
LOOKED_AT_BYTES = 64 << 20


class Workload:
    """The probes as a model takes them, one example's loss, and the settings."""

    def __init__(self, probes: ProbeSet, loss: Loss, settings: Settings) -> None:
        self.probes = probes
        self.loss = loss
        self.settings = settings
        self.cells = Cells.of(probes, settings.folds, settings.cells)
        self.directions = directions_of(settings.directions, probes, self.cells)
        self.loader = ProbeLoader(probes)
        self.statistics = BatchNormStatistics(probes, self.loader, loss, settings.batch_norm)
        self.notes = repeated_inputs(probes)  # what the user should know of the probes
        self._standing_out = extremes(probes.inputs)
        self._cell_rows = [self.cells.rows(cell) for cell in range(len(self.cells))]

    @property
    def directions_of_passes(self) -> tuple[int, int]:
        """How many directions are known before, and how many are sums of the first pass."""
        sums = sum(direction.cells is not None for direction in self.directions)
        return len(self.directions) - sums, sums

    @property
    def passes(self) -> int:
        """How often each probe is measured: twice where a direction is a sum of gradients."""
        return 2 if self.directions_of_passes[1] else 1

    def rows(self, count: int) -> np.ndarray:
        """Rows of a few probes, spread over the file and so over the subsets, and some extremes.

        What a model does with a short sequence, an unpadded one or an outlier shows only there.
        """
        return telling(self._standing_out, len(self.probes), count)

    def some(self, count: int) -> Examples:
        """The examples at the rows that ``rows`` gives."""
        return self.loader.take(self.rows(count))

    def batches(self, memory: Memory, smallest: int = 1) -> ProbeBatches:
        """All probes in batches, as large as memory holds and no smaller than ``smallest``."""
        return ProbeBatches(self._cell_rows, self.loader, self.loss, memory, smallest)


def telling(standing_out: Sequence[int], total: int, count: int) -> np.ndarray:
    """Rows of ``count`` of ``total`` probes, or of all of fewer: extremes and others in turn."""
    others = np.linspace(0, total - 1, count).astype(np.int64).tolist()
    pairs = zip_longest(standing_out, others)
    mixed = dict.fromkeys(row for row in chain(*pairs) if row is not None)
    left = dict.fromkeys(range(min(total, 3 * count)))
    return np.array([*{**mixed, **left}][: min(count, total)], dtype=np.int64)


def extremes(inputs: Mapping[str, np.ndarray]) -> list[int]:
    """Rows of the probes with the least and largest mean and the largest entry, of each input.

    Cost: a look at the inputs ``[N, ...]`` of at most 1,024 probes.
    """
    total = len(next(iter(inputs.values())))
    size = sum(values[:1].nbytes for values in inputs.values())
    among = min(total, LOOKED_AT, max(2, LOOKED_AT_BYTES // max(1, size)))
    rows = np.linspace(0, total - 1, among).astype(np.int64)
    flat = [np.abs(values[rows]).reshape(among, -1) for values in inputs.values() if values.size]
    means = [np.nan_to_num(values.mean(1, dtype=np.float64)) for values in flat]
    peaks = [np.nan_to_num(values.max(1).astype(np.float64)) for values in flat]
    least = [values.argmin() for values in means]
    largest = [values.argmax() for values in (*peaks, *means)]
    return [int(rows[k]) for k in (*least, *largest)]
