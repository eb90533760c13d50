"""Squared norms of sums of outer products, by Gram matrices over the positions.

``|sum_t dy_t x_t^T|^2 = sum_{t,t'} (x_t . x_t') (dy_t . dy_t')``: no gradient is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.device import float64
from analyze.gradients.device.devices import on_cpu
from analyze.gradients.forms.doubts import Norms
from analyze.gradients.numbers import where_it_is

CANCELLING = 0.05  # share of the sum of squares below which float32 is not enough
SMALLEST = 1e-26  # share of the squares of one factor that products are far above

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


def norms_by_grams(of: Callable[[torch.dtype], tuple[Tensor, Tensor]], like: Tensor) -> Norms:
    """Squared norms ``[n]`` from Gram matrices ``[n, G, T, T]``, which are overwritten.

    They are made in the dtype of ``like`` where the terms do not cancel, else in float64: the terms
    are off by ``eps`` of ``sum_t |x_t|^2 |dy_t|^2``. Where they cancel (a direction that a norm
    layer removes) their sum is far smaller, and would be off by 1e-3 and more. A CPU looks at once
    whether they do. Where float64 is dear they are in float32 and unsure; any other GPU takes
    float64 in the first place.
    """
    if like.dtype == torch.float32 and float64.is_dear(like.device):
        return _summed(*of(like.dtype))
    if like.dtype == torch.float32 and on_cpu(like):
        norms = _summed_on_cpu(*of(like.dtype))
        if norms is not None:
            return Norms(norms)
    x_gram, dy_gram = of(torch.float64)
    return Norms(x_gram.mul_(dy_gram).sum((1, 2, 3)).clamp_min_(0.0))


def _summed(x_gram: Tensor, dy_gram: Tensor) -> Norms:
    """The sums of the terms, which are in float32 along one axis; there is no copy in float64.

    Unsure where terms cancelled, or were too small or too large for float32. A large factor hides
    that the squares of the other one vanished, hence its part in what is too small.
    """
    squares = _trace(x_gram) + _trace(dy_gram)
    products = x_gram.mul_(dy_gram)
    norms, apart = _in_float64(products.sum(3)), _trace(products)
    sure = (norms >= CANCELLING * apart) & (apart > SMALLEST * (1.0 + squares))
    return Norms(norms, ~(sure & (norms < math.inf)))


def _summed_on_cpu(x_gram: Tensor, dy_gram: Tensor) -> Tensor | None:
    """The sums of the terms ``[n]``, or None where ``_summed`` may be unsure of one.

    Of small matrices NumPy's calls take less time, and one bound for all examples.
    """
    positions, places = x_gram.shape[1] * x_gram.shape[2], (0, -2, -1)
    largest = sum(float(gram.diagonal(*places).numpy().max()) for gram in (x_gram, dy_gram))
    products = x_gram.mul_(dy_gram)
    norms = products.sum((1, 2, 3), dtype=torch.float64)
    apart = products.diagonal(*places).sum((1, 2), dtype=torch.float64).numpy()
    numbers = norms.numpy()
    sure = (
        apart.min() > SMALLEST * (1.0 + positions * largest)
        and numbers.max() < math.inf
        and (numbers >= CANCELLING * apart).all()
    )
    return norms if sure else None


def _trace(gram: Tensor) -> Tensor:
    """``[n, G, T, T]`` to the sum of the diagonals, ``[n]`` float64."""
    return _in_float64(gram.diagonal(0, -2, -1))


def _in_float64(values: Tensor) -> Tensor:
    """The sum of ``[n, G, T]`` over the last two, ``[n]`` float64."""
    return where_it_is(values).sum((1, 2), dtype=torch.float64)


def _products_of(
    factors: Factors, start: int, stop: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The products of all positions with each other, of both factors."""
    x, dy = (side.to(dtype) for side in factors(start, stop))
    return x @ x.transpose(2, 3), dy @ dy.transpose(2, 3)
