"""The gradient sum of every cell, and the Gram matrix of these sums."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.batch import BatchResult
from analyze.gradients.float64 import device_with_float64
from analyze.gradients.timing import seconds

COLUMNS = 1 << 18  # values of every cell's sum that are in float64 at a time


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. A cell
    that is within one batch is written where it stays; the parts of others are added in float64
    first. No more than one float64 gradient is held.

    Args:
        cells: C.
        dtype: Of the sums; float32 ones are rounded once a cell.
        device: Of the batches; what is added on MPS, which has no float64, is on the CPU.
        host: Whether the sums are held in the host's memory.
    """

    def __init__(self, cells: int, dtype: torch.dtype, device: torch.device, host: bool) -> None:
        self._cells = cells
        self._dtype = dtype
        self._batches = device_with_float64(device)
        self._device = torch.device("cpu") if host else self._batches
        self._sums: dict[str, Tensor] = {}
        self._layouts: dict[str, tuple[torch.Size, tuple[int, ...]]] = {}  # of each sum in its row
        self._running: dict[str, Tensor] = {}  # the sum of a cell's parts so far
        self._begun: set[str] = set()
        self._pieces = 0  # of the cell so far

    def add(self, result: BatchResult, part: int, cell: int, first: bool, last: bool) -> None:
        """Add a part of a batch to the sum of a cell.

        Args:
            result: Of the batch.
            part: Which of its parts.
            cell: Number of the cell; its parts follow each other.
            first: Whether the cell begins with it.
            last: Whether it ends with it.
        """
        if first:
            self._begun.clear()
            self._pieces = 0
        self._pieces += 1
        for name in result.scaled:
            row = self._shaped(name, self._stacked(name, result.scaled[name].totals[part])[cell])
            if first:
                result.put_total(name, part, row)
            elif last and self._pieces == 2:
                result.add_total(name, part, row)  # two float32 numbers are rounded once anyway
            else:
                running = self._shaped(name, self._room(name))
                if name not in self._begun:
                    running.copy_(row)
                    self._begun.add(name)
                result.add_total(name, part, running)
        if last:
            for name in self._begun:
                self._sums[name][cell] = self._running[name]

    def gram_matrices(self, device: torch.device) -> dict[str, np.ndarray]:
        """``[C, C]`` float64 for each parameter that any cell has a gradient of."""
        return {name: gram_matrix(sums, device) for name, sums in self._sums.items()}

    def _stacked(self, name: str, like: Tensor) -> Tensor:
        """The sums of all cells ``[C, P]``, zero where there are none yet."""
        if name not in self._sums:
            shape = (self._cells, like.numel())
            self._sums[name] = torch.zeros(shape, dtype=self._dtype, device=self._device)
            # Of an empty tensor like it: without what is between the values of a view.
            self._layouts[name] = like.shape, torch.empty_like(like).stride()
        return self._sums[name]

    def _room(self, name: str) -> Tensor:
        """``[P]`` for the parts of one cell, where those of the cell before were added."""
        if name not in self._running:
            values = self._sums[name].shape[1]
            self._running[name] = torch.empty(values, dtype=torch.float64, device=self._batches)
        return self._running[name]

    def _shaped(self, name: str, row: Tensor) -> Tensor:
        """``[P]`` in the shape of the parameter."""
        return row.as_strided(*self._layouts[name])


def seconds_of_gram(cells: int, values: int, dtype: torch.dtype, device: torch.device) -> float:
    """About what the Gram matrix of so many sums of so many values takes, from a piece of it."""
    piece = torch.zeros(cells, min(values, COLUMNS), dtype=dtype, device=device)
    return seconds(partial(gram_matrix, piece, device)) * values / max(1, piece.shape[1])


def gram_matrix(sums: Tensor, device: torch.device) -> np.ndarray:
    """``G[c, d] = S_c . S_d`` for sums ``[C, P]``, accumulated in float64; cost ``C*C*P``.

    Args:
        sums: On the device or in the host's memory.
        device: Where to compute, but on MPS, which has no float64.
    """
    device = device_with_float64(device)
    gram = torch.zeros(len(sums), len(sums), dtype=torch.float64, device=device)
    for columns in sums.split(COLUMNS, dim=1):
        part = columns.to(device).double()
        gram += part @ part.T
    return gram.cpu().numpy()
