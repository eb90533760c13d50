"""Products of float32 rows with each other, as exact as in float64, by products in float32."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024  # entries of a row whose products float32 adds up
ROUNDING = 1.5 * 2.0**16  # added and taken away again it leaves whole 128ths of a number below 1
LEAST, MOST = 1, 253  # exponents, as float32 has them, of the largest entries that are scaled


def split_products(rows: Tensor) -> Tensor:
    """``sum_p rows[c, p] rows[d, p]`` of float32 ``[C, P]``: ``[C, C]`` float64.

    Entries of each block are divided by a power of two, so that none is above 1, and split in two
    without error: a whole number of 128ths, and the rest, at most a 256th. Products of the former
    are whole numbers of 128 * 128ths, and a block's sum of them is below 2**24 of those: float32
    holds it exactly, in whatever order it is added. What float32 rounds are products with the rest,
    a 256th of the whole. Blocks are added up in float64. The error is about 1e-10 of ``|rows[c]|
    |rows[d]|``, and that of plain products in float32 about 1e-7.

    Cost: 4 C*C*P multiply-adds in float32 in place of C*C*P in float64, and 48 bytes read and
    written for each entry in place of 28.
    """
    cells, length = rows.shape
    whole = length - length % BLOCK
    last = rows[:, whole:].double()
    total = last @ last.T
    if whole:
        blocks = rows[:, :whole].unflatten(1, (-1, BLOCK)).transpose(0, 1)  # [B, C, BLOCK]
        exponents = _exponents(blocks)
        products = _of_parts(blocks, exponents).double()  # [B, 2C, 2C]
        products = products.unflatten(1, (2, cells)).unflatten(3, (2, cells)).sum((1, 3))
        scales = _power_of_two(exponents).double()  # [B, C]
        total += (products * scales[:, :, None] * scales[:, None, :]).sum(0)
    return (total + total.T) / 2  # the products with the rest may be added in two orders


def bytes_of_a_column(cells: int) -> float:
    """Memory that ``split_products`` takes for each entry of P, with C rows."""
    return 8.0 * cells + 64.0 * cells**2 / BLOCK


def _of_parts(blocks: Tensor, exponents: Tensor) -> Tensor:
    """Products ``[B, 2C, 2C]`` of both parts of the scaled blocks with each other."""
    count, cells, length = blocks.shape
    parts = blocks.new_empty(count, 2 * cells, length)
    main, rest = parts[:, :cells], parts[:, cells:]
    # The inverse of a power of two is exact: of float32's exponents these two add up to 254.
    torch.mul(blocks, _power_of_two(254 - exponents)[:, :, None], out=rest)
    torch.add(rest, ROUNDING, out=main).sub_(ROUNDING)
    rest.sub_(main)
    return torch.bmm(parts, parts.transpose(1, 2))


def _exponents(blocks: Tensor) -> Tensor:
    """Of a power of two that no entry of a row exceeds, ``[B, C]``; float32's own, from 1 to 253.

    Entries of 2**126 and above are divided by 2**126.
    """
    largest = torch.linalg.vector_norm(blocks, float("inf"), dim=2)
    return (largest.view(torch.int32) >> 23).add_(1).clamp_(LEAST, MOST)


def _power_of_two(exponents: Tensor) -> Tensor:
    """``2**(exponents - 127)``, exactly: functions for powers need not be."""
    return (exponents << 23).view(torch.float32)
