"""A weight made as large as the batch: class tokens, queries and positions that are expanded.

``expand`` and ``repeat`` give every example its own copy, so each example's gradient is that of its
copy, summed over the further copies that the same example got.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analyze.gradients.forms import Explicit
from analyze.gradients.rules.rule import Call, Forms, Rule, broadcast_sum


def _copies_summed(call: Call, dy: Tensor) -> Forms:
    """``g[n, s] = sum_r dy[n, r, s]`` over the copies ``r`` along every axis."""
    values = call.output.single(dy)  # [N, *repeated]
    shape = call.weights["input"].tensor.shape
    missing = values.dim() - 1 - len(shape)
    values = values.flatten(1, missing).sum(1) if missing else values  # [N, *as many axes]
    for axis, size in enumerate(shape, start=1):
        if values.shape[axis] != size:
            values = values.unflatten(axis, (-1, size)).sum(axis)
    return {"input": Explicit(values)}


def _expanded(call: Call, dy: Tensor) -> Forms:
    shape = call.weights["input"].tensor.shape
    return {"input": Explicit(broadcast_sum(call.output.single(dy), shape))}


def _only_the_weight(call: Call) -> bool:
    """Whether nothing but the sizes comes from the batch."""
    return set(call.weights) == {"input"}


def _whole_copies(call: Call) -> bool:
    """Whether copies for one example lie side by side, its share a multiple of the weight's.

    Where the weight is as long as several examples' shares, nothing belongs to one example.
    """
    shape = call.weights["input"].tensor.shape
    return _only_the_weight(call) and all(size > 0 for size in shape)


BROADCASTING = (
    Rule(
        name="expand",
        functions=(Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to),
        arguments={"input": None, "size": None},
        weights=("input",),
        data=("size",),
        forms=_expanded,
        accepts=_only_the_weight,
        reads=(),
    ),
    Rule(
        name="repeat",
        functions=(Tensor.repeat, torch.tile, Tensor.tile),
        arguments={"input": None, "repeats": None},
        weights=("input",),
        data=(),
        forms=_copies_summed,
        accepts=_whole_copies,
        reads=(),
    ),
)
