"""Dot products of per-example gradients with given directions, accumulated in float64."""

from __future__ import annotations

from torch import Tensor

from analyze.gradients.numbers import as_real, double


def dot_products(values: Tensor, directions: Tensor) -> Tensor:
    """``values[n] . directions[d]`` of ``[n, ...]`` and ``[D, ...]``: ``[D, n]`` float64.

    Of complex numbers the real part of ``<values[n], directions[d]>``, as of both their parts.
    """
    return _rows(directions) @ _rows(values).T


def dot_products_of_pairs(left: Tensor, right: Tensor) -> Tensor:
    """``left[n] . right[n]`` of ``[n, ...]`` each: ``[n]`` float64."""
    return (_rows(left) * _rows(right)).sum(1)


def _rows(values: Tensor) -> Tensor:
    """``[n, ...]`` as ``[n, entries]`` in float64."""
    values = double(as_real(values))
    return values.reshape(len(values), values[:1].numel())
