"""Memory for the cells' gradient sums: this process's own, or shared with its forks."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

ALIGNED = 64  # bytes: a line of the cache
MOST_AXES = 64  # that torch allows a tensor

# How far the sums of a parameter are: what ``CellSums`` knows of them between two batches, which
# may be two processes'.
PROGRESS = np.dtype(
    [
        ("begun", np.int64),  # whether anything was added
        ("row", np.int64),  # the cell that is being added up, -1 for none
        ("few", np.int64),  # its parts in the row
        ("many", np.int64),  # its parts in float64
        ("strides", np.int64, MOST_AXES),
    ]
)


class Room(Protocol):
    """Memory for the sums of some parameters, by name, zero at first.

    Args:
        shapes: Of the parameters.
        progress: ``[P]`` of ``PROGRESS``, in their order.
    """

    shapes: Mapping[str, torch.Size]
    progress: np.ndarray

    def rows(self, name: str) -> Tensor:
        """``[C, ...]``, a sum for each cell, of which only what is written to takes memory."""
        ...

    def float64(self, name: str, like: Tensor) -> Tensor:
        """``[...]``, for the sum of the cell that is being added up.

        Args:
            name: Of the parameter.
            like: On the same device.
        """
        ...


class OwnRoom:
    """Memory of this process, or of a device.

    Args:
        dtype: Of the rows.
        cells: C.
        shapes: Of the parameters.
        device: Where they are.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        cells: int,
        shapes: Mapping[str, torch.Size],
        device: torch.device,
    ) -> None:
        self.shapes = shapes
        self.progress = np.zeros(len(shapes), PROGRESS)
        self._dtype = dtype
        self._device = device
        self._cells = cells

    def rows(self, name: str) -> Tensor:
        """``[C, ...]``."""
        size = self.shapes[name].numel()
        return torch.zeros(self._cells, size, dtype=self._dtype, device=self._device)

    def float64(self, name: str, like: Tensor) -> Tensor:
        """Of its own."""
        return torch.empty_like(like, dtype=torch.float64)


class SharedRoom:
    """Memory that this process and its forks see as each of them writes it, on the CPU.

    It is nobody's file: it goes with the last process that holds it, and the size of ``/dev/shm``,
    small in containers, does not matter.

    Args:
        dtype: Of the rows.
        cells: C.
        shapes: Of the parameters.

    Raises:
        MemoryError: there is not so much.
    """

    def __init__(self, dtype: torch.dtype, cells: int, shapes: Mapping[str, torch.Size]) -> None:
        self.shapes = shapes
        self._cells = cells
        sizes = [shape.numel() for shape in shapes.values()]
        self._rows = _Tensors(dtype, dict(zip(shapes, (cells * n for n in sizes), strict=True)))
        self._float64 = _Tensors(torch.float64, dict(zip(shapes, sizes, strict=True)))
        table = shared(len(shapes) * PROGRESS.itemsize)
        self.progress = np.frombuffer(table, PROGRESS, len(shapes))

    def rows(self, name: str) -> Tensor:
        """``[C, ...]``."""
        return self._rows.of(name).view(self._cells, -1 if self.shapes[name].numel() else 0)

    def float64(self, name: str, like: Tensor) -> Tensor:
        """The same for every cell, and for all that ask."""
        return self._float64.of(name)


class _Tensors:
    """Tensors of one axis in one piece of shared memory, by name."""

    def __init__(self, dtype: torch.dtype, sizes: Mapping[str, int]) -> None:
        self._dtype = dtype
        self._sizes = sizes
        bounds = np.cumsum([0, *(_aligned(n * dtype.itemsize) for n in sizes.values())])
        self._starts = dict(zip(sizes, bounds.tolist(), strict=False))
        self._memory = shared(int(bounds[-1]))

    def of(self, name: str) -> Tensor:
        count, start = self._sizes[name], self._starts[name]
        if not count:
            return torch.zeros(0, dtype=self._dtype)
        return torch.frombuffer(self._memory, dtype=self._dtype, count=count, offset=start)


def shared(size: int) -> mmap.mmap:
    """So many bytes, zero, that a fork of this process and the process itself both write to.

    Raises:
        MemoryError: there are not so many.
    """
    try:
        return mmap.mmap(-1, max(ALIGNED, size))
    except OSError as error:
        raise MemoryError(f"no {size} bytes to share between processes") from error


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
