"""The gradient sum of every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from analyze.gradients.numbers.float64 import device_with_float64
from analyze.gradients.numbers.kinds import as_real

FEW = 32  # parts of a cell that are added in the batches' precision


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. Complex
    sums are held as their real parts, 2P of them, whose products are the real parts of the sums'.
    A few parts of a cell are added where its sum stays, in the batches' precision, as the examples
    of a batch are; of a cell with more, these then in float64. No more than one float64 gradient
    of each parameter is held.

    Several threads may add, no two of them at the same time to a parameter.

    Args:
        shapes: Of the parameters, by name.
        cells: C.
        dtype: Of the sums.
        place: Where they are held.
        device: Of the batches; what is added on MPS, which has no float64, is on the CPU.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        cells: int,
        dtype: torch.dtype,
        place: torch.device,
        device: torch.device,
    ) -> None:
        self.shapes = shapes
        self.cells = cells
        self._dtype = dtype
        self._place = place
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
        totals = as_real(totals)
        if name not in self._of:
            size = self.cells, totals[0].numel()
            rows = torch.zeros(size, dtype=self._dtype, device=self._place)
            # Of an empty tensor like it: without what is between the values of a view.
            strides = torch.empty_like(totals[0]).stride()
            self._of[name] = _ParameterSums(rows, totals.shape[1:], strides, self._batches)
        for cell, total in zip(cells, totals, strict=True):
            self._of[name].add(cell, total, scale)

    def finish(self) -> None:
        """All parts have been added."""
        for sums in self._of.values():
            sums.finish()

    @property
    def names(self) -> list[str]:
        """The parameters of which any part had a gradient."""
        return [name for name in self.shapes if name in self._of]

    def rows(self, name: str) -> Tensor:
        """The sums of a parameter, ``[C, P]``, the values in the same order for all cells."""
        return self._of[name].rows


class _ParameterSums:
    """The sums of one parameter, ``[C, P]``, one cell after the other.

    Args:
        rows: Where they stay.
        shape: Of the parameter.
        strides: In which its values are in a row.
        batches: Where parts come from.
    """

    def __init__(
        self, rows: Tensor, shape: torch.Size, strides: tuple[int, ...], batches: torch.device
    ) -> None:
        self.rows = rows
        self._layout = shape, strides
        self._elsewhere = rows.device.type != batches.type
        # Where a few parts are added: the cell's sum itself, if it is not elsewhere.
        self._few = torch.empty_like(rows[0], device=batches) if self._elsewhere else rows[0]
        self._row: int | None = None  # the cell that has been begun
        self._added = 0  # parts in these few
        self._many: Tensor | None = None  # float64, of the cell's parts before those, if any

    def add(self, row: int, total: Tensor, scale: float) -> None:
        if row != self._row:
            self.finish()
            self._row = row
            if not self._elsewhere:
                self._few = self.rows[row]
        elif self._added == FEW:
            self._add_to_many()
        few = self._few.as_strided(*self._layout)
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
        if self._many is not None:
            self.rows[self._row].copy_(self._add_to_many())
        elif self._elsewhere:
            self.rows[self._row].copy_(self._few)
        self._row, self._added, self._many = None, 0, None

    def _add_to_many(self) -> Tensor:
        if self._many is None:
            self._many = self._few.to(torch.float64, copy=True)
        else:
            self._many.add_(self._few)
        self._added = 0
        return self._many
