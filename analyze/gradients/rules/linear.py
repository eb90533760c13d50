"""Linear layers: ``y[..., o] = sum_k x[..., k] weight[o, k] + bias[o]``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.forms import Explicit, OuterProducts, rows
from analyze.gradients.rules.rule import Forms, layer, made


def _linear_forms(
    arguments: dict[str, Any], dy: Tensor, axis: ExampleAxis, wanted: frozenset[str]
) -> Forms:
    """``weight[n] = sum_t dy[n, t] x[n, t]^T`` and ``bias[n] = sum_t dy[n, t]``.

    Any number of position axes T, before or after the axis of the examples. Cost: as
    ``OuterProducts``; the bias ``N*T*O`` additions.
    """
    x, weight = arguments["input"], arguments["weight"]
    count = axis.count(x)
    # [N, 1, T, K] and [N, 1, T, O]
    x, dy = (axis.reshaped(v, 1, -1, v.shape[-1]) for v in (x, dy))
    return made(
        wanted,
        weight=lambda: OuterProducts(
            count=count,
            shape=weight.shape,
            dims=(1, x.shape[2], *weight.shape),
            factors=lambda start, stop: (rows(x, start, stop), rows(dy, start, stop)),
            batch_sum=lambda start, stop: (
                rows(dy, start, stop).flatten(0, 2).T @ rows(x, start, stop).flatten(0, 2)
            ),
            like=x,
            outputs=lambda direction: (F.linear(x, direction), dy),
        ),
        bias=lambda: Explicit(dy.sum((1, 2))),
    )


def _examples_on_a_position_axis(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """The last axis holds the features of one position; examples may lie on any other."""
    return axis.dim < arguments["input"].dim() - 1 and arguments["weight"].dim() == 2


LINEARS = (
    layer(
        "linear",
        F.linear,
        {"input": None, "weight": None, "bias": None},
        _linear_forms,
        _examples_on_a_position_axis,
    ),
)
