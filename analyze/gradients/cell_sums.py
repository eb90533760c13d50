"""The gradient sum of every cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.float64 import device_with_float64
from analyze.gradients.room import Room

FEW = 32  # parts of a cell that are added in the batches' precision


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. A few
    parts of a cell are added where its sum stays, in the batches' precision, as the examples of
    a batch are; of a cell with more, these then in float64. No more than one float64 gradient is
    held.

    All that it knows between two batches is in the room, so that a fork goes on where another one
    has been.

    Args:
        room: Where the sums are held.
        device: Of the batches; what is added on MPS, which has no float64, is on the CPU.
    """

    def __init__(self, room: Room, device: torch.device) -> None:
        self._room = room
        self._batches = device_with_float64(device)
        self._numbers = {name: number for number, name in enumerate(room.shapes)}
        self._of: dict[str, _ParameterSums] = {}

    def add(self, cells: Sequence[int], name: str, totals: Tensor, scale: float) -> None:
        """Add the sums over some parts of cells, of a parameter.

        Args:
            cells: ``[S]``, of each part its cell. All parts of a cell come one after the other.
            name: Of the parameter.
            totals: ``[S, *shape]``, ``scale`` times the sums.
            scale: A power of two.
        """
        sums = self._sums(name)
        for cell, total in zip(cells, totals, strict=True):
            sums.add(cell, total, scale)

    def finish(self) -> None:
        """All parts have been added."""
        for name in self.names:
            self._sums(name).finish()

    @property
    def names(self) -> list[str]:
        """The parameters of which any part had a gradient."""
        begun = self._room.progress["begun"]
        return [name for name, number in self._numbers.items() if begun[number]]

    def rows(self, name: str) -> Tensor:
        """The sums of a parameter, ``[C, P]``, the values in the same order for all cells."""
        return self._sums(name).rows

    def _sums(self, name: str) -> _ParameterSums:
        if name not in self._of:
            self._of[name] = _ParameterSums(
                name, self._room, self._room.progress[self._numbers[name]], self._batches
            )
        return self._of[name]


class _ParameterSums:
    """The sums of one parameter, ``[C, P]``, one cell after the other.

    Args:
        name: Of the parameter.
        room: Where the sums are.
        progress: A record of ``PROGRESS``, which others may write to between two parts.
        batches: Where parts come from.
    """

    def __init__(self, name: str, room: Room, progress: np.void, batches: torch.device) -> None:
        self.rows = room.rows(name)
        self._name = name
        self._room = room
        self._progress = progress
        self._shape = room.shapes[name]
        # Where a few parts are added: the cell's sum itself, if it is not elsewhere.
        self._elsewhere = self.rows.device.type != batches.type
        self._apart = torch.empty_like(self.rows[0], device=batches) if self._elsewhere else None
        self._float64: Tensor | None = None  # of the cell's parts before those few, if any

    def add(self, row: int, total: Tensor, scale: float) -> None:
        known = self._progress
        if not known["begun"]:
            # Of an empty tensor like it: without what is between the values of a view.
            known["strides"][: total.dim()] = torch.empty_like(total).stride()
            known["begun"], known["row"] = True, -1
        if row != known["row"]:
            self.finish()
            known["row"] = row
        elif known["few"] == FEW:
            self._add_to_float64()
        few = self._few().as_strided(self._shape, known["strides"][: total.dim()].tolist())
        if known["few"]:
            few.add_(total.to(few.device), alpha=1.0 / scale)
        elif total.dtype == few.dtype and total.device == few.device:
            torch.mul(total, 1.0 / scale, out=few)
        else:  # first to where there is room for what is small without the scale
            few.copy_(total).mul_(1.0 / scale)
        known["few"] += 1

    def finish(self) -> None:
        """Write the sum of the cell that has been begun to where it stays."""
        known = self._progress
        if known["row"] < 0:
            return
        row = self.rows[int(known["row"])]
        if known["many"]:
            row.copy_(self._add_to_float64())
        elif self._elsewhere:
            row.copy_(self._few())
        known["row"], known["few"], known["many"], self._float64 = -1, 0, 0, None

    def _few(self) -> Tensor:
        return self.rows[int(self._progress["row"])] if self._apart is None else self._apart

    def _add_to_float64(self) -> Tensor:
        known = self._progress
        if self._float64 is None:
            self._float64 = self._room.float64(self._name, self._few())
        if known["many"]:
            self._float64.add_(self._few())
        else:
            self._float64.copy_(self._few())
        known["many"] += known["few"]
        known["few"] = 0
        return self._float64
