"""Memory for sums: each process's own, or shared with its forks."""

from __future__ import annotations

import mmap
from typing import Protocol

import torch
from torch import Tensor

ALIGNED = 64  # bytes: a line of the cache


class Room(Protocol):
    """Gives memory for one tensor after the other."""

    def zeros(self, rows: int, columns: int) -> Tensor:
        """``[rows, columns]``, zero, of which only what is written to takes memory."""
        ...


class OwnRoom:
    """Memory of this process, or of a device.

    Args:
        dtype: Of the tensors.
        device: Where they are.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device

    def zeros(self, rows: int, columns: int) -> Tensor:
        """``[rows, columns]``."""
        return torch.zeros(rows, columns, dtype=self._dtype, device=self._device)


class SharedRoom:
    """Memory that this process sees as its forks have written it.

    A fork and this process ask for the same tensors in the same order to have the same ones. The
    memory is nobody's file: it goes with the last process that holds it, and the size of
    ``/dev/shm``, small in containers, does not matter.

    Args:
        dtype: Of the tensors.
        rows: Of all of them together: the largest ``rows * columns`` that are asked for.
        columns: Of each of them.

    Raises:
        MemoryError: there is not so much.
    """

    def __init__(self, dtype: torch.dtype, rows: int, columns: list[int]) -> None:
        self._dtype = dtype
        size = sum(_aligned(rows * count * dtype.itemsize) for count in columns)
        try:
            self._memory = mmap.mmap(-1, max(ALIGNED, size))
        except OSError as error:
            raise MemoryError(f"no {size} bytes to share between processes") from error
        self._taken = 0

    def zeros(self, rows: int, columns: int) -> Tensor:
        """``[rows, columns]``, which are what the same call in a fork has made of them."""
        count = rows * columns
        if not count:
            return torch.zeros(rows, columns, dtype=self._dtype)
        start = self._taken
        self._taken += _aligned(count * self._dtype.itemsize)
        flat = torch.frombuffer(self._memory, dtype=self._dtype, count=count, offset=start)
        return flat.view(rows, columns)


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
