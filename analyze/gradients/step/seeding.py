"""Where a backward pass starts: from a given gradient at the model's output."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def seeded(output: Tensor, seed: Tensor) -> Tensor:
    """A scalar whose gradient at ``output`` is ``seed``, of the same shape.

    Its gradients are those of ``output`` with ``grad_outputs=seed``, bit for bit. Given the seed in
    that way, torch would load SymPy, to compare two shapes: a third of a second for every program.
    ``output`` itself is not held.
    """
    return cast(Tensor, _Seeded.apply(output, seed))


class _Seeded(torch.autograd.Function):
    """Zero, whose backward pass gives the seed."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, seed: Tensor) -> Tensor:
        ctx.seed = seed
        return output.new_zeros((), dtype=output.real.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.seed, None
