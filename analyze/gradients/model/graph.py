"""Autograd's graph: its nodes, and the axis of a model's output that has channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHANNELS_FIRST = {"Convolution", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}
KEEPING_AXES = {"Add", "Sub", "Mul", "Div", "Relu", "Slice"}
DEEPEST = 16  # nodes in a row that keep the axes


def nodes_of_graph(top: Any) -> dict[Any, None]:
    """A node and all that come before it, in the order in which they are met; empty for None."""
    nodes: dict[Any, None] = {}
    waiting = [] if top is None else [top]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes[node] = None
            waiting += [child for child, _ in node.next_functions if child is not None]
    return nodes


def channels_of(run: Callable[[], Tensor]) -> int | None:
    """1 where the output comes from convolutions by steps that keep the axes, else None.

    Cost: a forward pass.
    """
    with torch.enable_grad():
        node = run().grad_fn
    return 1 if node is not None and _channels_first(node, DEEPEST) else None


def _channels_first(node: Any, left: int) -> bool:
    """Whether the output of a node is ``[N, C, *positions]``."""
    name = node.name().lstrip("_").partition("Backward")[0]
    if name in CHANNELS_FIRST:
        return True
    if left == 0 or not (name in KEEPING_AXES or name.startswith("Upsample")):
        return False
    before = [other for other, _ in node.next_functions if other is not None]
    data = [other for other in before if "AccumulateGrad" not in other.name()]
    return bool(data) and all(_channels_first(other, left - 1) for other in data)
