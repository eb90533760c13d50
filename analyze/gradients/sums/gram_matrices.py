"""Gram matrices of the cells' sums, a few values of every sum at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.errors import out_of_memory
from analyze.gradients.device import float64
from analyze.gradients.device.devices import chunk_bytes, device_with_float64, is_cpu
from analyze.gradients.device.timing import seconds
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.split_products import bytes_of_a_column, split_products

IN_CACHE = 1 << 17  # values of all cells' sums that are in float64 at a time on a CPU
FEW_CELLS = 12  # for which products in float64 take less time than to read what they multiply
LEAST = 1024  # values of every cell's sum that are taken at a time, at least


def gram_matrices(sums: CellSums, device: torch.device) -> dict[str, np.ndarray]:
    """Gram matrices ``[C, C]`` of the parameters that any cell has a gradient of.

    Where memory runs out, fewer values are taken at a time from then on.
    """
    device = device_with_float64(device)
    columns, grams = _columns(sums.cells, sums.dtype, device), []
    for name in sums.names:
        gram, columns = _as_memory_allows(sums.rows(name), device, columns)
        grams.append(gram)
    if not grams:
        return {}
    return dict(zip(sums.names, torch.stack(grams).cpu().numpy(), strict=True))


def gram_matrix(sums: Tensor, device: torch.device) -> Tensor:
    """``G[c, d] = S_c . S_d`` of sums ``[C, P]``, ``[C, C]`` float64; cost ``C*C*P``.

    It is accumulated in float64 on the device, or the CPU instead of one without float64.
    """
    device = device_with_float64(device)
    return _as_memory_allows(sums, device, _columns(len(sums), sums.dtype, device))[0]


def seconds_of_gram(cells: int, values: int, dtype: torch.dtype, device: torch.device) -> float:
    """Estimated time of the Gram matrix of so many sums of so many values, from a piece of it."""
    columns = min(values, _columns(cells, dtype, device_with_float64(device)))
    piece = torch.zeros(cells, columns, dtype=dtype, device=device)
    return seconds(partial(gram_matrix, piece, device), device) * values / max(1, columns)


def _as_memory_allows(sums: Tensor, device: torch.device, columns: int) -> tuple[Tensor, int]:
    """The Gram matrix, and how many columns at a time there was memory for.

    Raises:
        RuntimeError, MemoryError: there is none for ``LEAST``.
    """
    while True:
        try:
            return _in_parts(sums, device, columns), columns
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or columns <= LEAST:
                raise
        # Here, where the error holds no tensors any more.
        columns = max(LEAST, min(columns, sums.shape[1]) // 4)


def _in_parts(sums: Tensor, device: torch.device, columns: int) -> Tensor:
    """The Gram matrix, so many columns at a time."""
    split = _is_split(len(sums), sums.dtype, device)
    gram = torch.zeros(len(sums), len(sums), dtype=torch.float64, device=device)
    for part in sums.split(columns, dim=1):
        values = part.to(device)
        if split:
            gram += split_products(values)
        else:
            values = values.double()
            gram += values @ values.T
    return gram


def _is_split(cells: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products are of split numbers: in float32, where float64 is dear."""
    return float64.is_dear(device) and dtype == torch.float32 and cells >= FEW_CELLS


def _columns(cells: int, dtype: torch.dtype, device: torch.device) -> int:
    """Values of every cell's sum that are taken at a time.

    On a CPU these stay in the cache of a core, which is three to five times as fast; elsewhere
    they take as much memory as other work on a chunk.
    """
    if is_cpu(device) and not float64.is_dear(device):
        return max(LEAST, IN_CACHE // max(1, cells))
    moved = cells * dtype.itemsize
    held = bytes_of_a_column(cells) if _is_split(cells, dtype, device) else 8 * cells
    return max(LEAST, LEAST * int(chunk_bytes(device) / max(1.0, LEAST * (moved + held))))
