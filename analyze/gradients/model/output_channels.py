"""On which axis a model's output has the channels of its last layer, where its graph says so."""

from __future__ import annotations

from typing import Any

import torch

from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica

CHANNELS_FIRST = {"Convolution", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}
KEEPING_AXES = {"Add", "Sub", "Mul", "Div", "Relu", "Slice"}
DEEPEST = 16  # nodes that keep the axes, one after the other


def channels_of(replica: Replica, probes: Inputs) -> int | None:
    """1 where the output comes from convolutions by steps that keep the axes, else None.

    Cost: a forward pass.
    """
    with torch.enable_grad():
        node = replica(probes).grad_fn
    return 1 if node is not None and _channels_first(node, DEEPEST) else None


def _channels_first(node: Any, left: int) -> bool:
    """Whether what a node of autograd's graph gives is ``[N, C, *positions]``."""
    name = node.name().lstrip("_").partition("Backward")[0]
    if name in CHANNELS_FIRST:
        return True
    if left == 0 or not (name in KEEPING_AXES or name.startswith("Upsample")):
        return False
    before = [other for other, _ in node.next_functions if other is not None]
    data = [other for other in before if "AccumulateGrad" not in other.name()]
    return bool(data) and all(_channels_first(other, left - 1) for other in data)
