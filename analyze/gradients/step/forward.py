"""Forward passes alone: the losses of some probes."""

from __future__ import annotations

import numpy as np
import torch

from analyze.errors import out_of_memory
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica


def losses_of(replica: Replica, examples: Examples, loss: Loss) -> np.ndarray:
    """Losses ``[N]`` float64 of N examples, in one pass."""
    with torch.no_grad():
        output = replica(examples.inputs)
        losses = loss.per_example(output, examples.targets.to(output.device))
    return losses.cpu().double().numpy()


def losses_at(
    replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss, size: int
) -> np.ndarray:
    """Losses ``[N]`` float64 of the probes at ``rows``, ``size`` at a time or as memory allows."""
    while True:
        try:
            parts = np.split(rows, range(size, len(rows), size))
            return np.concatenate([losses_of(replica, loader.take(part), loss) for part in parts])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2
