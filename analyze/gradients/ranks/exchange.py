"""The Gram matrices of sums that lie on several ranks, by an exchange of columns.

Each rank has the sums of some cells, all values of each. It sends every other rank a part of the
values, its columns, and gets those that are its own of all cells. The Gram matrix of the columns
is a part of the whole Gram matrix: the parts are added up. A cell whose batches lie on two ranks
has a sum on each; the two are added where their columns meet.

C cells, P values of a parameter, R ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.gram_matrices import gram_matrix

AT_ONCE = 32 << 20  # bytes that a rank gets at a time


@dataclass(frozen=True)
class Exchange:
    """What all ranks have to know before they exchange sums.

    Args:
        cells: The number of all cells.
        held: The cells that each rank has sums of.
        values: The number of values of each parameter that any rank has a gradient of.
        dtype: Of the sums.
    """

    cells: int
    held: tuple[range, ...]
    values: Mapping[str, int]
    dtype: torch.dtype

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return len(self.held)

    @cached_property
    def width(self) -> int:
        """How many values of each cell a rank gets at a time."""
        return max(1, AT_ONCE // (self.dtype.itemsize * max(1, sum(map(len, self.held)))))

    def columns(self, values: int) -> list[list[slice]]:
        """The columns of each rank, turn after turn, of a parameter of so many values."""
        turns = -(-values // (self.width * self.ranks))
        pieces = np.linspace(0, values, turns * self.ranks + 1).astype(np.int64).tolist()
        slices = [slice(first, end) for first, end in pairwise(pieces)]
        return [slices[k : k + self.ranks] for k in range(0, len(slices), self.ranks)]


class Exchanging:
    """One rank's side of an exchange, with the memory for it.

    Args:
        exchange: What is exchanged.
        rank: The number of this rank.
        sums: Of its cells.
        device: Where products are computed.
        place: The device of the tensors that are sent: that of the GPU with NCCL, else the CPU.

    Raises:
        RuntimeError: out of memory. Nothing has been sent then, and no rank waits.
    """

    def __init__(
        self,
        exchange: Exchange,
        rank: int,
        sums: CellSums,
        device: torch.device,
        place: torch.device,
    ) -> None:
        self._exchange = exchange
        self._rank = rank
        self._sums = sums
        self._device = device
        most = min(exchange.width, max(exchange.values.values(), default=0))
        sent, got = len(exchange.held[rank]) * exchange.ranks, sum(map(len, exchange.held))
        self._sent = torch.empty(sent * most, dtype=exchange.dtype, device=place)
        self._got = torch.empty(got * most, dtype=exchange.dtype, device=place)
        shape = len(exchange.values), exchange.cells, exchange.cells
        self._grams = torch.zeros(shape, dtype=torch.float64, device=place)

    def products(self) -> dict[str, np.ndarray]:
        """The Gram matrix ``[C, C]`` of each parameter: whole on rank 0, of no use on others.

        All ranks must call it. Cost: each rank sends ``(R-1)/R`` of the values of its cells' sums,
        and at the end ``C*C`` numbers for each parameter; it computes ``C*C*P/R`` products.

        Raises:
            RuntimeError: a rank did not take part within the time limit of the process group.
        """
        names = set(self._sums.names)
        for row, (name, values) in enumerate(self._exchange.values.items()):
            gram = self._grams[row]
            sums = self._sums.in_order(name) if name in names else None
            for columns in self._exchange.columns(values):
                gram += self._of_columns(sums, columns).to(gram.device)
        dist.reduce(self._grams, dst=0)
        return dict(zip(self._exchange.values, self._grams.cpu().numpy(), strict=True))

    def _of_columns(self, sums: Tensor | None, columns: Sequence[slice]) -> Tensor:
        """The Gram matrix of this rank's columns, once they have come from all ranks."""
        held, own = self._exchange.held, columns[self._rank]
        width = own.stop - own.start
        sends = [len(held[self._rank]) * (c.stop - c.start) for c in columns]
        gets = [len(cells) * width for cells in held]
        sent, got = self._sent[: sum(sends)], self._got[: sum(gets)]
        for place, part in zip(sent.split(sends), columns, strict=True):
            if sums is None:  # no example of this rank has a gradient of the parameter
                place.zero_()
            else:
                place.view(len(sums), part.stop - part.start).copy_(sums[:, part])
        dist.all_to_all_single(got, sent, gets, sends)
        rows = torch.zeros(self._exchange.cells, width, dtype=got.dtype, device=got.device)
        for cells, values in zip(held, got.split(gets), strict=True):
            rows[cells.start : cells.stop] += values.view(len(cells), width)
        return gram_matrix(rows, self._device)
