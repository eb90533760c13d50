"""The Gram matrix of the cells' gradient sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.cell_sums import CellSums
from analyze.gradients.float64 import device_with_float64
from analyze.gradients.timing import seconds

COLUMNS = 1 << 18  # values of every cell's sum that are in float64 at a time


def gram_matrices(
    shares: Sequence[CellSums], cells: int, device: torch.device
) -> dict[str, np.ndarray]:
    """``[C, C]`` float64 for each parameter that any cell has a gradient of.

    Args:
        shares: The sums of some examples each; a cell's are added in float64.
        cells: C, of all shares.
        device: Where to compute.
    """
    layouts = [share.layouts for share in shares]
    found = {}
    for name in dict.fromkeys(name for own in layouts for name in own):
        layout = next(own[name] for own in layouts if name in own)
        rows = [
            (share.cells, share.rows(name, layout))
            for share, own in zip(shares, layouts, strict=True)
            if name in own
        ]
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
