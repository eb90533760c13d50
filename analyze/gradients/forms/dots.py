"""Dot products of per-example gradients with given directions, accumulated in float64.

On a CPU, blocks of up to ``BLOCK`` products of float32 are added in float32 and the blocks in
float64, as for squares. Products of numbers too small or too large for float32 are made in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analyze.gradients.forms.squares import block_of
from analyze.gradients.numbers import as_real, double, where_it_is


def dot_products(values: Tensor, directions: Tensor) -> Tensor:
    """``values[n] . directions[d]`` of ``[n, ...]`` and ``[D, ...]``: ``[D, n]`` float64.

    Of complex numbers the real part of ``<values[n], directions[d]>``, as of both their parts.
    """
    rows, along = _rows(values), _rows(directions)
    block = block_of(rows)
    if block is None or rows.dtype != along.dtype:
        return double(along) @ double(rows).T
    # [blocks, D, block] @ [blocks, block, n]
    by_block, of_along = (v.view(len(v), -1, block).transpose(0, 1) for v in (rows, along))
    return torch.bmm(of_along, by_block.transpose(1, 2)).sum(0, dtype=torch.float64)


def dot_products_of_pairs(left: Tensor, right: Tensor) -> Tensor:
    """``left[n] . right[n]`` of ``[n, ...]`` each: ``[n]`` float64."""
    left, right = _rows(left), _rows(right)
    block = block_of(left)
    if block is None or left.dtype != right.dtype:
        return (double(left) * double(right)).sum(1)
    return (left * right).view(len(left), -1, block).sum(2).sum(1, dtype=torch.float64)


def _rows(values: Tensor) -> Tensor:
    """``[n, ...]`` as ``[n, entries]``, where there is float64."""
    values = where_it_is(as_real(values))
    return values.reshape(len(values), values[:1].numel())
