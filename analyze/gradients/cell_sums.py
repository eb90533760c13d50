"""The gradient sum of every cell, and the Gram matrix of these sums."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.batch import BatchResult
from analyze.gradients.float64 import device_with_float64
from analyze.gradients.room import Room
from analyze.gradients.timing import seconds

Layout = tuple[torch.Size, tuple[int, ...]]  # shape and strides

FEW = 8  # parts of a cell that are added in the batches' precision
COLUMNS = 1 << 18  # values of every cell's sum that are in float64 at a time


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. A few
    parts of a cell are added where its sum stays, in the batches' precision, as the examples of
    a batch are; these then in float64. No more than one float64 gradient is held.

    Args:
        cells: Numbers of the cells, C of them, which follow each other.
        room: Where the sums are held.
        device: Of the batches; what is added on MPS, which has no float64, is on the CPU.
    """

    def __init__(self, cells: range, room: Room, device: torch.device) -> None:
        self.cells = cells
        self._room = room
        self._batches = device_with_float64(device)
        self._sums: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}  # of each sum in its row
        self._few: dict[str, Tensor] = {}  # of a cell, where the sums are on another device
        self._added: Counter[str] = Counter()  # parts in these few
        self._running: dict[str, Tensor] = {}  # the sum of the cell's parts before those
        self._begun: set[str] = set()

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
            self._added.clear()
        own = self.cells.index(cell)
        for name in result.scaled:
            few = self._few_parts(name, result.scaled[name].totals[part], own)
            if self._added[name] == FEW:
                self._add_to_running(name, few)
                self._added[name] = 0
            add = result.add_total if self._added[name] else result.put_total
            add(name, part, self._shaped(name, few))
            self._added[name] += 1
        if last:
            self._end(own)

    def _end(self, own: int) -> None:
        """Write the sum of a cell to where it stays."""
        for name in self._added:
            row = self._sums[name][own]
            few = self._few.get(name, row)
            if name in self._begun:
                self._add_to_running(name, few)
                row.copy_(self._running[name])
            elif few is not row:
                row.copy_(few)

    def _few_parts(self, name: str, like: Tensor, own: int) -> Tensor:
        """``[P]``, where a few parts are added: the cell's sum itself, if it is not elsewhere."""
        row = self._stacked(name, like)[own]
        if row.device.type == self._batches.type:
            return row
        if name not in self._few:
            self._few[name] = torch.empty_like(row, device=self._batches)
        return self._few[name]

    def _add_to_running(self, name: str, few: Tensor) -> None:
        if name not in self._running:
            self._running[name] = torch.empty_like(few, dtype=torch.float64)
        if name in self._begun:
            self._running[name].add_(few)
        else:
            self._running[name].copy_(few)
            self._begun.add(name)

    def take_over(self, layouts: Mapping[str, Layout]) -> None:
        """Have what other sums, in a fork, have written to this room.

        Args:
            layouts: Theirs.
        """
        for name, layout in layouts.items():
            self._hold(name, layout)

    def rows(self, name: str, layout: Layout) -> Tensor:
        """The sums ``[C, P]`` of a parameter, the values in the order of a layout."""
        sums = self._sums[name]
        if self.layouts[name] == layout:
            return sums
        ordered = torch.empty_like(sums)
        for to, own in zip(ordered, sums, strict=True):
            to.as_strided(*layout).copy_(self._shaped(name, own))
        return ordered

    def _stacked(self, name: str, like: Tensor) -> Tensor:
        """The sums of all cells ``[C, P]``, zero where there are none yet."""
        if name not in self._sums:
            # Of an empty tensor like it: without what is between the values of a view.
            self._hold(name, (like.shape, torch.empty_like(like).stride()))
        return self._sums[name]

    def _hold(self, name: str, layout: Layout) -> None:
        self._sums[name] = self._room.zeros(len(self.cells), math.prod(layout[0]))
        self.layouts[name] = layout

    def _shaped(self, name: str, row: Tensor) -> Tensor:
        """``[P]`` in the shape of the parameter."""
        return row.as_strided(*self.layouts[name])


def gram_matrices(
    shares: Sequence[CellSums], cells: int, device: torch.device
) -> dict[str, np.ndarray]:
    """``[C, C]`` float64 for each parameter that any cell has a gradient of.

    Args:
        shares: The sums of some examples each; a cell's are added in float64.
        cells: C, of all shares.
        device: Where to compute.
    """
    names = dict.fromkeys(name for share in shares for name in share.layouts)
    found = {}
    for name in names:
        own = [share for share in shares if name in share.layouts]
        layout = own[0].layouts[name]
        rows = [(share.cells, share.rows(name, layout)) for share in own]
        found[name] = gram_matrix(rows, cells, device)
    return found


def seconds_of_gram(cells: int, values: int, dtype: torch.dtype, device: torch.device) -> float:
    """About what the Gram matrix of so many sums of so many values takes, from a piece of it."""
    piece = torch.zeros(cells, min(values, COLUMNS), dtype=dtype, device=device)
    work = partial(gram_matrix, [(range(cells), piece)], cells, device)
    return seconds(work) * values / max(1, piece.shape[1])


def gram_matrix(
    shares: Sequence[tuple[range, Tensor]], cells: int, device: torch.device
) -> np.ndarray:
    """``G[c, d] = S_c . S_d`` for sums ``[C, P]``, accumulated in float64; cost ``C*C*P``.

    Args:
        shares: Cells and their sums, on the device or in the host's memory; where a cell is in
            several shares, its sum is that of theirs.
        cells: C.
        device: Where to compute, but on MPS, which has no float64.
    """
    device = device_with_float64(device)
    gram = torch.zeros(cells, cells, dtype=torch.float64, device=device)
    for columns in zip(*(rows.split(COLUMNS, dim=1) for _, rows in shares), strict=True):
        whole = _together([own for own, _ in shares], columns, cells, device)
        gram += whole @ whole.T
    return gram.cpu().numpy()


def _together(
    ranges: Sequence[range], columns: Sequence[Tensor], cells: int, device: torch.device
) -> Tensor:
    """Some columns of all shares, ``[C, ...]`` float64."""
    if len(ranges) == 1 and len(ranges[0]) == cells:
        return columns[0].to(device).double()
    whole = torch.zeros(cells, columns[0].shape[1], dtype=torch.float64, device=device)
    for own, some in zip(ranges, columns, strict=True):
        whole[own.start : own.stop] += some.to(device)
    return whole
