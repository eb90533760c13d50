"""Segments of a batch: consecutive examples, over which a gradient sum is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from analyze.gradients.device.sending import sent


class Segments:
    """The S segments of a batch in order, from the number of examples in each."""

    def __init__(self, lengths: Sequence[int]) -> None:
        ends = [*accumulate(lengths)]
        self.bounds = [*zip([0, *ends], ends, strict=False)]  # first and one past the last
        self._owners: Tensor | None = None  # where they were asked for last

    def __len__(self) -> int:
        return len(self.bounds)

    @property
    def count(self) -> int:
        """N, the examples of all segments."""
        return self.bounds[-1][1]

    def within(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Number of each segment with examples from ``start`` to ``stop``, and their range."""
        for number, (first, end) in enumerate(self.bounds):
            if first < stop and start < end:
                yield number, max(first, start), min(end, stop)

    def added_up(self, values: Tensor, start: int) -> Tensor:
        """Rows ``[n, P]`` of the examples from ``start`` on, added up in each segment: ``[S, P]``.

        One product with a matrix of ones and zeros, whatever the number of segments.
        """
        numbers = torch.arange(len(self), device=values.device)
        owners = self.owners(values.device)[start : start + len(values)]
        return (numbers[:, None] == owners).to(values.dtype) @ values

    def owners(self, device: torch.device) -> Tensor:
        """``[N]``: the number of each example's segment."""
        if self._owners is None or self._owners.device != device:
            lengths = torch.tensor([end - first for first, end in self.bounds])
            self._owners = sent(torch.arange(len(self)).repeat_interleave(lengths), device)
        return self._owners


def rows(values: Tensor, start: int, stop: int) -> Tensor:
    """``values[start:stop]``, without a slice where that is all."""
    return values if stop - start == values.shape[0] else values[start:stop]


def stacked(sums: list[Tensor]) -> Tensor:
    """One sum of each segment as ``[S, ...]``, in their order in memory; a single one uncopied."""
    if len(sums) == 1:
        return sums[0][None]
    order = sorted(range(sums[0].dim()), key=sums[0].stride, reverse=True)  # the closest last
    together = torch.stack([total.permute(order) for total in sums])
    return together.permute(0, *(1 + order.index(axis) for axis in range(len(order))))
