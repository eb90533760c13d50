"""The gradient sum of every cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from analyze.gradients.float64 import device_with_float64
from analyze.gradients.room import Room

Layout = tuple[torch.Size, tuple[int, ...]]  # shape and strides

FEW = 32  # parts of a cell that are added in the batches' precision


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. A few
    parts of a cell are added where its sum stays, in the batches' precision, as the examples of
    a batch are; of a cell with more, these then in float64. No more than one float64 gradient is
    held.

    Args:
        cells: Numbers of the cells, C of them, which follow each other.
        room: Where the sums are held.
        device: Of the batches; what is added on MPS, which has no float64, is on the CPU.
    """

    def __init__(self, cells: range, room: Room, device: torch.device) -> None:
        self.cells = cells
        self._room = room
        self._batches = device_with_float64(device)
        self._of: dict[str, _ParameterSums] = {}

    def add(self, cells: Sequence[int], name: str, totals: Tensor, scale: float) -> None:
        """Add the sums over some parts of cells, of a parameter.

        Args:
            cells: ``[S]``, of each part its cell. All parts of a cell come one after the other.
            name: Of the parameter.
            totals: ``[S, *shape]``, ``scale`` times the sums.
            scale: A power of two.
        """
        if name not in self._of:
            # Of an empty tensor like it: without what is between the values of a view.
            own = totals[0]
            self._hold(name, (own.shape, torch.empty_like(own).stride()))
        for cell, total in zip(cells, totals, strict=True):
            self._of[name].add(self.cells.index(cell), total, scale)

    def finish(self) -> None:
        """All parts have been added."""
        for sums in self._of.values():
            sums.finish()

    @property
    def layouts(self) -> dict[str, Layout]:
        """How each parameter's sums are in their rows."""
        return {name: sums.layout for name, sums in self._of.items()}

    def take_over(self, layouts: Mapping[str, Layout]) -> None:
        """Have what other sums, in a fork, have written to this room.

        Args:
            layouts: Theirs.
        """
        for name, layout in layouts.items():
            self._hold(name, layout)

    def rows(self, name: str, layout: Layout) -> Tensor:
        """The sums ``[C, P]`` of a parameter, the values in the order of a layout."""
        return self._of[name].in_order(layout)

    def _hold(self, name: str, layout: Layout) -> None:
        rows = self._room.zeros(len(self.cells), math.prod(layout[0]))
        self._of[name] = _ParameterSums(rows, layout, self._batches)


class _ParameterSums:
    """The sums of one parameter, ``[C, P]``, one cell after the other."""

    def __init__(self, rows: Tensor, layout: Layout, batches: torch.device) -> None:
        self.layout = layout
        self._rows = rows
        self._elsewhere = rows.device.type != batches.type
        # Where a few parts are added: the cell's sum itself, if it is not elsewhere.
        self._few = torch.empty_like(rows[0], device=batches) if self._elsewhere else rows[0]
        self._row: int | None = None  # the cell that has been begun
        self._added = 0  # parts in these few
        self._running: Tensor | None = None  # float64, of the cell's parts before those, if any

    def add(self, row: int, total: Tensor, scale: float) -> None:
        if row != self._row:
            self.finish()
            self._row = row
            if not self._elsewhere:
                self._few = self._rows[row]
        elif self._added == FEW:
            self._add_to_running()
        few = self._shaped(self._few)
        if self._added:
            few.add_(total.to(few.device), alpha=1.0 / scale)
        elif total.dtype == few.dtype and total.device == few.device:
            torch.mul(total, 1.0 / scale, out=few)
        else:  # first to where there is room for what is small without the scale
            few.copy_(total).mul_(1.0 / scale)
        self._added += 1

    def finish(self) -> None:
        """Write the sum of the cell that has been begun to where it stays."""
        if self._row is None:
            return
        if self._running is not None:
            self._rows[self._row].copy_(self._add_to_running())
        elif self._elsewhere:
            self._rows[self._row].copy_(self._few)
        self._row, self._added, self._running = None, 0, None

    def in_order(self, layout: Layout) -> Tensor:
        if self.layout == layout:
            return self._rows
        ordered = torch.empty_like(self._rows)
        for to, own in zip(ordered, self._rows, strict=True):
            to.as_strided(*layout).copy_(self._shaped(own))
        return ordered

    def _add_to_running(self) -> Tensor:
        if self._running is None:
            self._running = self._few.to(torch.float64, copy=True)
        else:
            self._running.add_(self._few)
        self._added = 0
        return self._running

    def _shaped(self, row: Tensor) -> Tensor:
        """``[P]`` in the shape of the parameter."""
        return row.as_strided(*self.layout)
