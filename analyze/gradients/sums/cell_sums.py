"""The gradient sum of every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import device_with_float64
from analyze.gradients.numbers import as_real

FEW = 32  # segments of a cell that are added in the batches' precision


class CellSums:
    """``S_c = sum_{i in c} g_i`` of every parameter: ``[C, P]`` for ``P`` values.

    The values are in the order in which the first sum of a batch has them in memory, the same for
    all cells: products of sums do not depend on it, and a copy to another order is slow. Complex
    sums are held as their real parts, 2P of them, whose products are the real parts of the sums'.
    The first segments of a cell are added in its row, in the batches' precision, as the examples
    of a batch are. Where a cell has more than ``FEW``, each ``FEW`` are added up in float64: one
    float64 gradient of each parameter at a time.

    Several threads may add, no two of them at the same time to a parameter. The sums are held on
    ``place``; batches come from ``device``, or the CPU instead of MPS, which has no float64.
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
        self.dtype = dtype
        self._place = place
        self._batches = device_with_float64(device)
        self._of: dict[str, _ParameterSums] = {}

    def add(self, cells: Sequence[int], name: str, totals: Tensor, scale: float) -> None:
        """Add a parameter's sums over the segments of a batch: ``totals``, ``[S, *shape]``.

        They are ``scale``, a power of two, times the sums. ``cells`` has the cell of each segment;
        all segments of a cell come in a row.
        """
        totals = as_real(totals)
        if name not in self._of:
            size = self.cells, totals[0].numel()
            rows = torch.zeros(size, dtype=self.dtype, device=self._place)
            # Of an empty tensor like it: without what is between the values of a view.
            strides = torch.empty_like(totals[0]).stride()
            self._of[name] = _ParameterSums(rows, totals.shape[1:], strides, self._batches)
        for cell, total in zip(cells, totals, strict=True):
            self._of[name].add(cell, total, scale)

    def finish(self) -> None:
        """Write the last cells' sums, once all batches have been added."""
        for sums in self._of.values():
            sums.finish()

    @property
    def names(self) -> list[str]:
        """The parameters that any example has a gradient of."""
        return [name for name in self.shapes if name in self._of]

    def added_up(self, name: str, cells: np.ndarray, like: Tensor) -> Tensor:
        """The sum over the cells of which ``cells`` ``[C]`` is true, as ``like``; 0 without any.

        It is added up in float64. What is in the order of the sums gets the shape of the parameter
        by it.
        """
        if name not in self._of:
            return torch.zeros_like(like)
        return self._of[name].added_up(cells, like)

    def rows(self, name: str) -> Tensor:
        """The sums of a parameter, ``[C, P]``, the values in the same order for all cells."""
        return self._of[name].rows

    def in_order(self, name: str) -> Tensor:
        """The sums of a parameter, ``[C, P]``, the values in the parameter's own order."""
        return self._of[name].in_order()


class _ParameterSums:
    """The sums of one parameter, added up in ``rows``, ``[C, P]``, one cell after the other.

    A row has the values of a ``shape`` by ``strides``. ``batches`` is the device of the summands.
    """

    def __init__(
        self, rows: Tensor, shape: torch.Size, strides: tuple[int, ...], batches: torch.device
    ) -> None:
        self.rows = rows
        self._shape, self._strides = shape, strides
        self._elsewhere = rows.device.type != batches.type
        # Where the next segments are added: in the cell's row, if that is on the same device.
        self._latest = torch.empty_like(rows[0], device=batches) if self._elsewhere else rows[0]
        self._cell: int | None = None  # the one that has been begun
        self._added = 0  # segments in ``_latest``
        self._before: Tensor | None = None  # float64, of the cell's segments before those, if any

    def add(self, cell: int, total: Tensor, scale: float) -> None:
        if cell != self._cell:
            self.finish()
            self._cell = cell
            if not self._elsewhere:
                self._latest = self.rows[cell]
        elif self._added == FEW:
            self._with_latest()
        latest = self._latest.as_strided(self._shape, self._strides)
        if self._added:
            latest.add_(total.to(latest.device), alpha=1.0 / scale)
        elif total.dtype == latest.dtype and total.device == latest.device:
            torch.mul(total, 1.0 / scale, out=latest)
        else:  # first to where there is room for what is small without the scale
            latest.copy_(total).mul_(1.0 / scale)
        self._added += 1

    def in_order(self) -> Tensor:
        """The rows with the values in the order of the shape; a copy where it is another."""
        count, width = self.rows.shape
        strides = (width, *self._strides)
        return self.rows.as_strided((count, *self._shape), strides).reshape(count, width)

    def added_up(self, cells: np.ndarray, like: Tensor) -> Tensor:
        """The sum over some cells, in the shape, dtype and place of ``like``."""
        total = torch.zeros(self.rows.shape[1], dtype=torch.float64, device=self.rows.device)
        for cell in np.flatnonzero(cells).tolist():
            total += self.rows[cell]
        shaped = total.as_strided(self._shape, self._strides)
        if like.is_complex():
            shaped = torch.view_as_complex(shaped.contiguous())
        return torch.empty_like(like).copy_(shaped)

    def finish(self) -> None:
        """Write the sum of the cell that has been begun to where it stays."""
        if self._cell is None:
            return
        if self._before is not None:
            self.rows[self._cell].copy_(self._with_latest())
        elif self._elsewhere:
            self.rows[self._cell].copy_(self._latest)
        self._cell, self._added, self._before = None, 0, None

    def _with_latest(self) -> Tensor:
        """``_before`` with the latest segments added; the next ones begin anew."""
        if self._before is None:
            self._before = self._latest.to(torch.float64, copy=True)
        else:
            self._before.add_(self._latest)
        self._added = 0
        return self._before
