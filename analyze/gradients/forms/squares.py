"""Squared norms of per-example gradients, as exact as float64 and as fast as float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analyze.gradients.device.devices import on_cpu
from analyze.gradients.numbers import as_real, where_it_is

BLOCK = 1024  # entries whose squares are added in float32, at most
SHORT = 64  # blocks below this length gain nothing
FEW = 64 * BLOCK  # entries below which float64 all through is as fast
FAINT = 1e-24  # a sum of squares that is not far from the smallest that float32 holds


class SquaredNorms:
    """``sum g[n]**2`` for each n, accumulated in float64, of gradients that come a few at a time.

    On a CPU, blocks of up to ``BLOCK`` float32 entries are added in float32, and the blocks in
    float64: five times as fast, and off by 1e-8, where the rounding of each entry is 6e-8.
    """

    def __init__(self) -> None:
        self._block: int | None = None
        self._norms: list[Tensor] = []  # of blocks, [n, blocks], or of all, [n]

    def add(self, values: Tensor) -> None:
        """The next n gradients ``[n, ...]``, all of one size."""
        values = as_real(where_it_is(values))
        count = values.shape[0]
        if not self._norms:
            self._block = _block_of(values)
        if self._block is None:
            rows = values.reshape(count, -1)
            norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        else:
            norms = torch.linalg.vector_norm(values.reshape(count, -1, self._block), dim=2)
        self._norms.append(norms)

    def result(self, again: Callable[[int, int], Tensor]) -> Tensor:
        """The squared norms of all that were added, ``[N]`` float64.

        ``again`` makes a range of the gradients once more, where float32 had no room for squares.
        """
        norms = self._norms[0] if len(self._norms) == 1 else torch.cat(self._norms)
        if self._block is None:
            return norms.square_()
        squares = torch.linalg.vector_norm(norms, dim=1, dtype=torch.float64).square_()
        numbers = squares.numpy()  # blocks are of the CPU alone
        if not (numbers.min() > FAINT and math.isfinite(numbers.max())):
            unsure = ((squares <= FAINT) | ~squares.isfinite()).nonzero().flatten()
            squares[unsure] = torch.cat([in_double(again(n, n + 1)) for n in unsure.tolist()])
        return squares


def squared_norms(values: Tensor) -> Tensor:
    """``sum values[n]**2`` for each n, ``[N, ...]`` to ``[N]`` float64: as ``SquaredNorms``."""
    squares = SquaredNorms()
    squares.add(values)
    return squares.result(lambda start, stop: values[start:stop])


def in_double(values: Tensor) -> Tensor:
    """``sum values[n]**2`` for each n, in float64 all through."""
    rows = as_real(where_it_is(values)).reshape(values.shape[0], -1)
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square_()


def _block_of(values: Tensor) -> int | None:
    """Length of the blocks that each of ``[n, ...]`` is cut into; None for float64 all through."""
    if not on_cpu(values) or values.dtype != torch.float32:
        return None
    length = values.shape[1:].numel()
    if length < BLOCK and values.numel() < FEW:
        return None
    block = math.gcd(length, BLOCK)
    return block if block >= SHORT else None
