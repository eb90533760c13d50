"""Linear layers: ``y[..., o] = sum_k x[..., k] weight[o, k] + bias[o]``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.forms import Explicit, OuterProducts
from analyze.gradients.layout import ExampleLayout
from analyze.gradients.rules.rule import Forms, layer


def linear_forms(
    arguments: dict[str, Any], dy: Tensor, layout: ExampleLayout, wanted: frozenset[str]
) -> Forms:
    """``weight[n] = sum_t dy[n, t] x[n, t]^T`` and ``bias[n] = sum_t dy[n, t]``.

    Any number of position axes T, before or after the axis of the examples. Cost: as
    ``OuterProducts``; the bias ``N*T*O`` additions.
    """
    x, weight = arguments["input"], arguments["weight"]
    x = layout.examples_first(x).flatten(1, -2)  # [N, T, K]
    dy = layout.examples_first(dy).flatten(1, -2)  # [N, T, O]
    found: Forms = {}
    if "weight" in wanted:
        found["weight"] = OuterProducts(
            count=len(x),
            shape=weight.shape,
            dims=(1, x.shape[1], *weight.shape),
            factors=lambda start, stop: (x[start:stop, None], dy[start:stop, None]),
            batch_sum=lambda start, stop: (
                dy[start:stop].flatten(0, 1).T @ x[start:stop].flatten(0, 1)
            ),
            like=x,
        )
    if "bias" in wanted:
        found["bias"] = Explicit(dy.sum(1))
    return found


def examples_on_a_position_axis(arguments: dict[str, Any], layout: ExampleLayout) -> bool:
    """The last axis holds the features of one position; examples may lie on any other."""
    return layout.axis < arguments["input"].dim() - 1 and arguments["weight"].dim() == 2


LINEARS = (
    layer(
        "linear",
        F.linear,
        {"input": None, "weight": None, "bias": None},
        linear_forms,
        examples_on_a_position_axis,
    ),
)
