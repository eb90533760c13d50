"""What all measurements of an engine use, whatever the model: probes, loss and settings."""

from __future__ import annotations

import numpy as np

from analyze.gradients.checks.choice import extremes, telling
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.device.memory import Memory
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Settings
from analyze.gradients.step.batch_norm import BatchNormStatistics
from analyze.gradients.threads.probe_batches import ProbeBatches
from analyze.probes import Cells, ProbeSet


class Bench:
    """The probes as a model takes them, one example's loss, and the settings.

    Args:
        probes: The probe set.
        loss: Of one example.
        settings: Device, precision, batch norm, batch size, folds.
    """

    def __init__(self, probes: ProbeSet, loss: Loss, settings: Settings) -> None:
        self.probes = probes
        self.loss = loss
        self.settings = settings
        self.cells = Cells.of(probes, settings.folds, settings.cells)
        self.loader = ProbeLoader(probes)
        self.statistics = BatchNormStatistics(probes, self.loader, loss, settings.batch_norm)
        self._standing_out = extremes(probes.inputs)

    def rows(self, count: int) -> np.ndarray:
        """Rows of a few probes, spread over the file and so over the subsets, and some extremes."""
        return telling(self._standing_out, len(self.probes), count)

    def some(self, count: int) -> Examples:
        """The examples at these rows."""
        return self.loader.take(self.rows(count))

    def batches(self, memory: Memory, smallest: int = 1) -> ProbeBatches:
        """All probes in batches, as large as memory holds and no smaller than ``smallest``."""
        return ProbeBatches(self.cells, self.loader, self.loss, memory, smallest)
