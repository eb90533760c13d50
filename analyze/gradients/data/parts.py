"""Parts of a batch: examples that follow each other and get a gradient sum of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor


class Parts:
    """The parts of a batch, in order.

    Args:
        lengths: Examples of each, S of them.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        ends = [*accumulate(lengths)]
        self.bounds = [*zip([0, *ends], ends, strict=False)]  # first and one past the last

    def __len__(self) -> int:
        return len(self.bounds)

    @property
    def count(self) -> int:
        """N, the examples of all."""
        return self.bounds[-1][1]

    def within(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Number of each part that has examples from ``start`` to ``stop``, and which these are."""
        for part, (first, end) in enumerate(self.bounds):
            if first < stop and start < end:
                yield part, max(first, start), min(end, stop)

    def owners(self, device: torch.device) -> Tensor:
        """``[N]``: the part of each example."""
        lengths = torch.tensor([end - first for first, end in self.bounds], device=device)
        numbers = torch.arange(len(self), device=device)
        return numbers.repeat_interleave(lengths, output_size=self.count)


class PartSums:
    """The sum over each part, of gradients that come a few at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen = 0
        self._sums: list[Tensor | None] = [None] * len(parts)

    def add(self, values: Tensor) -> None:
        """The next n gradients ``[n, ...]``, whose memory may be that of those to come."""
        start = self._seen
        self._seen += values.shape[0]
        for part, first, end in self._parts.within(start, self._seen):
            own = rows(values, first - start, end - start)
            so_far = self._sums[part]
            if so_far is None:
                self._sums[part] = own[0].clone() if end - first == 1 else own.sum(0)
            else:
                so_far.add_(own[0] if end - first == 1 else own.sum(0))

    def found(self) -> Tensor:
        """``[S, ...]``, once all gradients have come."""
        sums = [one for one in self._sums if one is not None]
        assert len(sums) == len(self._parts), "gradients are missing"
        return stacked(sums)


def rows(values: Tensor, start: int, stop: int) -> Tensor:
    """``values[start:stop]``, without a slice where that is all."""
    return values if stop - start == values.shape[0] else values[start:stop]


def stacked(sums: list[Tensor]) -> Tensor:
    """One sum of each part as ``[S, ...]``, in their order in memory; a single one uncopied."""
    if len(sums) == 1:
        return sums[0][None]
    order = sorted(
        range(sums[0].dim()), key=sums[0].stride, reverse=True
    )  # the last is the closest
    together = torch.stack([one.permute(order) for one in sums])
    return together.permute(0, *(1 + order.index(axis) for axis in range(len(order))))


def sums_of(values: Tensor, parts: Parts) -> Tensor:
    """``[N, ...]`` to ``[S, ...]``: as ``PartSums``, of gradients that are all there."""
    sums = PartSums(parts)
    sums.add(values)
    return sums.found()
