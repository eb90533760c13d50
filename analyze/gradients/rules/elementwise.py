"""Sums and products with a weight: position embeddings, layer scales, masks, residual gates.

``y = a op b`` with one of the two a weight, broadcast over the examples: each example's gradient is
that of the weight's own copy, summed over the axes along which it was broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.forms import Explicit
from analyze.gradients.rules.rule import Call, Forms, Rule, broadcast_sum

Derivative = Callable[[dict[str, Any], Tensor], Tensor]


def _broadcasts(call: Call) -> bool:
    """Whether all examples share the weight, and the operation is plain arithmetic."""
    other = call.arguments["other"]
    return (
        len(call.weights) == 1
        and call.arguments.get("rounding_mode") is None
        and isinstance(other, Tensor | int | float)
        and call.arguments.get("out") is None
    )


def _rule(
    name: str,
    functions: tuple[Callable[..., Any], ...],
    derivatives: dict[str, Derivative],
    reads: tuple[str, ...],
    extra: dict[str, Any],
) -> Rule:
    def forms(call: Call, dy: Tensor) -> Forms:
        def gradient(argument: str) -> Tensor:
            by_example = call.output.single(derivatives[argument](call.arguments, dy))
            return broadcast_sum(by_example, call.weights[argument].tensor.shape)

        return {argument: Explicit(gradient(argument)) for argument in call.wanted}

    arguments = {"input": None, "other": None, **extra}
    both = ("input", "other")
    return Rule(name, functions, arguments, both, both, forms, _broadcasts, reads)


def _scaled(dy: Tensor, arguments: dict[str, Any], sign: int = 1) -> Tensor:
    factor = sign * arguments["alpha"]
    return dy if factor == 1 else dy * factor


T = Tensor
ELEMENTWISE = (
    _rule(
        "add", (torch.add, T.add, T.add_),
        {"input": lambda a, dy: dy, "other": lambda a, dy: _scaled(dy, a)}, (), {"alpha": 1},
    ),
    _rule(
        "sub", (torch.sub, torch.subtract, T.sub, T.sub_, T.subtract),
        {"input": lambda a, dy: dy, "other": lambda a, dy: _scaled(dy, a, -1)}, (), {"alpha": 1},
    ),
    _rule(
        "mul", (torch.mul, torch.multiply, T.mul, T.mul_, T.multiply),
        {"input": lambda a, dy: dy * a["other"], "other": lambda a, dy: dy * a["input"]},
        ("input", "other"), {},
    ),
    _rule(
        "div", (torch.div, torch.divide, torch.true_divide, T.div, T.div_, T.divide,
                T.true_divide),
        {"input": lambda a, dy: dy / a["other"],
         "other": lambda a, dy: -dy * a["input"] / (a["other"] * a["other"])},
        ("input", "other"), {"rounding_mode": None},
    ),
)  # fmt: skip
