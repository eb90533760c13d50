"""Squared norms of sums of outer products, by Gram matrices over the positions.

``|sum_t dy_t x_t^T|^2 = sum_{t,t'} (x_t . x_t') (dy_t . dy_t')``: no gradient is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import on_cpu

CANCELLING = 0.05  # share of the sum of squares below which float32 is not enough
SMALLEST = 1e-30  # products of squares that float32 holds

Factors = Callable[[int, int], tuple[Tensor, Tensor]]  # [n, G, T, K] and [n, G, T, O]


class Grams(NamedTuple):
    """Gram matrices over the positions of both factors, ``[n, G, T, T]`` each."""

    of: Callable[[int, int, torch.dtype], tuple[Tensor, Tensor]]  # a range of examples, a dtype
    cost: float  # multiply-adds of one example in one group
    values: int  # numbers held at a time, of one example in one group


def grams_of_factors(factors: Factors, dims: tuple[int, int, int, int]) -> Grams:
    """Gram matrices by a product of each factor with itself; ``dims`` are ``(G, T, O, K)``."""
    _, positions, outputs, inputs = dims
    values = positions * (3 * positions + outputs + inputs)
    return Grams(partial(_products_of, factors), cost_of_factors(dims), values)


def cost_of_factors(dims: tuple[int, int, int, int]) -> int:
    """Multiply-adds that ``grams_of_factors`` takes for one example in one group."""
    _, positions, outputs, inputs = dims
    return positions**2 * (outputs + inputs)


def norms_by_grams(of: Callable[[torch.dtype], tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """Squared norms ``[n]`` float64 from Gram matrices ``[n, G, T, T]``, which are overwritten.

    They are made in the dtype of ``like`` where the terms do not cancel, else in float64: the terms
    are off by ``eps`` of ``sum_t |x_t|^2 |dy_t|^2``. Where they cancel (a direction that a norm
    layer removes) their sum is far smaller, and would be off by 1e-3 and more. A GPU takes float64
    at once: to see whether they cancel would be to wait for it.
    """
    if on_cpu(like) and like.dtype == torch.float32:
        norms, apart = _summed(*of(like.dtype))
        if _far_from_rounding(norms.numpy(), apart.numpy()):
            return norms
    return _summed(*of(torch.float64))[0].clamp_min_(0.0)


def _summed(x_gram: Tensor, dy_gram: Tensor) -> tuple[Tensor, Tensor]:
    """``[n]`` float64 each: the sum of the terms, and of those with ``t = t'`` alone."""
    products = x_gram.mul_(dy_gram)
    norms = products.sum((1, 2, 3), dtype=torch.float64)
    return norms, products.diagonal(0, -2, -1).sum((1, 2), dtype=torch.float64)


def _products_of(
    factors: Factors, start: int, stop: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The products of all positions with each other, of both factors."""
    x, dy = (side.to(dtype) for side in factors(start, stop))
    return x @ x.transpose(2, 3), dy @ dy.transpose(2, 3)


def _far_from_rounding(norms: np.ndarray, apart: np.ndarray) -> bool:
    """Whether no terms cancelled, and none were too small for float32."""
    return bool((norms >= CANCELLING * apart).all() and apart.min() > SMALLEST)
