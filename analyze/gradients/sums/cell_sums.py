"""The gradient sum of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import device_with_float64, synchronize
from analyze.gradients.device.memory import zeros
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

    def add(self, cells: Sequence[int], name: str, totals: Tensor, unscale: Tensor) -> None:
        """Add a parameter's sums over the segments of a batch: ``totals``, ``[S, *shape]``.

        Times ``unscale``, a power of two, they are the sums. ``cells`` has the cell of each
        segment; all segments of a cell come in a row, and no cell twice in a batch.
        """
        totals = as_real(totals)
        if name not in self._of:
            size = self.cells, totals[0].numel()
            rows = zeros(size, self.dtype, self._place, self._batches)
            # Of an empty tensor like it: without what is between the values of a view.
            strides = torch.empty_like(totals[0]).stride()
            self._of[name] = _ParameterSums(rows, totals.shape[1:], strides, self._batches)
        self._of[name].add(cells, totals, unscale)

    def finish(self) -> None:
        """Write the last cells' sums, once all batches have been added."""
        for sums in self._of.values():
            sums.finish()
        if any(sums.late for sums in self._of.values()):
            synchronize(self._batches)

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
        self.late = rows.is_pinned()  # whether a row may still be on its way to the host
        self._elsewhere = rows.device.type != batches.type
        # Where the next segments are added: in the cell's row, if that is on the same device.
        self._latest = torch.empty_like(rows[0], device=batches) if self._elsewhere else rows[0]
        self._cell: int | None = None  # the one that has been begun
        self._added = 0  # segments in ``_latest``
        self._before: Tensor | None = None  # float64, of the cell's segments before those, if any

    def add(self, cells: Sequence[int], totals: Tensor, unscale: Tensor) -> None:
        """Add the totals ``[S, *shape]`` of segments; cells that begin are written together."""
        begun = int(cells[0] == self._cell)
        if begun:
            self._add_to_begun(totals[0], unscale)
        for first, end in _consecutive(cells, begun):
            if self._elsewhere:  # there is room for one cell
                for cell, total in zip(cells[first:end], totals[first:end], strict=True):
                    self._begin(cell)
                    _write(self._shaped(self._latest[None]), total[None], unscale)
            else:
                self._begin(cells[end - 1])
                rows = self.rows[cells[first] : cells[end - 1] + 1]
                _write(self._shaped(rows), totals[first:end], unscale)
            self._added = 1

    def _begin(self, cell: int) -> None:
        """Further segments are of this cell; that of the one before is done."""
        self.finish()
        self._cell = cell
        if not self._elsewhere:
            self._latest = self.rows[cell]

    def _add_to_begun(self, total: Tensor, unscale: Tensor) -> None:
        if self._added == FEW:
            self._with_latest()
        latest = self._shaped(self._latest[None])[0]
        if self._added:
            latest.addcmul_(total.to(latest.device), unscale)
        else:
            _write(latest[None], total[None], unscale)
        self._added += 1

    def _shaped(self, rows: Tensor) -> Tensor:
        """Rows ``[n, P]`` as ``[n, *shape]``, in the order in which they hold the values."""
        size, strides = (len(rows), *self._shape), (rows.stride(0), *self._strides)
        return rows.as_strided(size, strides)

    def in_order(self) -> Tensor:
        """The rows with the values in the order of the shape; a copy where it is another."""
        return self._shaped(self.rows).reshape(self.rows.shape)

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
            self.rows[self._cell].copy_(self._with_latest(), non_blocking=self.late)
        elif self._elsewhere:
            self.rows[self._cell].copy_(self._latest, non_blocking=self.late)
        self._cell, self._added, self._before = None, 0, None

    def _with_latest(self) -> Tensor:
        """``_before`` with the latest segments added; the next ones begin anew."""
        if self._before is None:
            self._before = self._latest.to(torch.float64, copy=True)
        else:
            self._before.add_(self._latest)
        self._added = 0
        return self._before


def _write(place: Tensor, totals: Tensor, unscale: Tensor) -> None:
    if totals.dtype == place.dtype and totals.device == place.device:
        torch.mul(totals, unscale, out=place)
    else:  # first to where there is room for what is small without the scale
        place.copy_(totals).mul_(unscale)


def _consecutive(cells: Sequence[int], start: int) -> Iterator[tuple[int, int]]:
    """Ranges of the places from ``start`` on whose cells follow one another."""
    for end in range(start + 1, len(cells) + 1):
        if end == len(cells) or cells[end] != cells[end - 1] + 1:
            yield start, end
            start = end
