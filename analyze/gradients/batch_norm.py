"""Running statistics of batch norm: as saved in a checkpoint, or recomputed from the probes.

As saved they lag behind the weights, and in mid-training m-coherence is largely an artefact of
that lag; recomputed is the default.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from analyze.errors import InputError
from analyze.gradients.float64 import double
from analyze.gradients.loader import ProbeLoader
from analyze.gradients.replica import Replica

EXAMPLES_PER_BATCH = 128
MINIMUM = 2  # a variance needs two


def layers_with_statistics(model: nn.Module) -> list[_BatchNorm]:
    """The batch norm layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def recompute_statistics(replica: Replica, loader: ProbeLoader, order: np.ndarray) -> None:
    """Set the running statistics by one forward pass in training mode of batch norm alone.

    The examples at the rows ``order`` go through in ``ceil(len(order) / 128)`` batches of nearly
    equal size, whatever the batch size of the measurement, so that the numbers do not depend on
    it. The statistics become the average over the batches of their means and unbiased variances,
    as with ``momentum=None``. All other layers stay in eval mode.

    Raises:
        InputError: fewer than two examples.

    Cost: one forward pass.
    """
    layers = layers_with_statistics(replica.model)
    if not layers:
        return
    if len(order) < MINIMUM:
        raise InputError(
            "there are too few probes to recompute the statistics of batch norm from",
            found=f"{len(order)} probes that are not held out",
            expected=f"{MINIMUM} or more; some hundreds give statistics that mean something",
            fix="--batch-norm saved, or more probes that are not held out",
        )
    batches = np.array_split(order, -(-len(order) // EXAMPLES_PER_BATCH))
    buffers = [b for layer in layers for b in (layer.running_mean, layer.running_var)]
    statistics = [buffer for buffer in buffers if buffer is not None]
    totals = [torch.zeros_like(double(buffer)) for buffer in statistics]
    with torch.no_grad():
        for examples in loader.ahead(batches, replica.device, replica.dtype):
            # A momentum of 1 leaves the batch's own statistics; averaging in place would round.
            replica(examples.inputs, layers, training=True, momentum=1.0)
            for total, buffer in zip(totals, statistics, strict=True):
                total.add_(double(buffer))
        for total, buffer in zip(totals, statistics, strict=True):
            buffer.copy_(total / len(batches))
    replica.forget()
