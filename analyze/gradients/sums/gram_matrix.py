"""The Gram matrix of the cells' gradient sums."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.timing import seconds
from analyze.gradients.numbers.float64 import device_with_float64
from analyze.gradients.sums.cell_sums import CellSums

COLUMNS = 1 << 18  # values of every cell's sum that are in float64 at a time


def gram_matrices(sums: CellSums, device: torch.device) -> dict[str, np.ndarray]:
    """Gram matrices ``[C, C]`` of the parameters that any cell has a gradient of."""
    return {name: gram_matrix(sums.rows(name), device) for name in sums.names}


def seconds_of_gram(cells: int, values: int, dtype: torch.dtype, device: torch.device) -> float:
    """Estimated time of the Gram matrix of so many sums of so many values, from a piece of it."""
    piece = torch.zeros(cells, min(values, COLUMNS), dtype=dtype, device=device)
    return seconds(partial(gram_matrix, piece, device)) * values / max(1, piece.shape[1])


def gram_matrix(sums: Tensor, device: torch.device) -> np.ndarray:
    """``G[c, d] = S_c . S_d`` of sums ``[C, P]``, accumulated in float64; cost ``C*C*P``.

    It is computed on the device, or the CPU instead of MPS, which has no float64.
    """
    device = device_with_float64(device)
    gram = torch.zeros(len(sums), len(sums), dtype=torch.float64, device=device)
    for columns in sums.split(COLUMNS, dim=1):
        part = columns.to(device).double()
        gram += part @ part.T
    return gram.cpu().numpy()
