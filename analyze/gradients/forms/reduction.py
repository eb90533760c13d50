"""Sums, squared norms and dot products of per-example gradients: no other module makes them.

Gradients are handed over a few at a time. A form that knows a cheaper way to the sums or to the
squared norms makes the ``Summary`` by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments, rows, stacked
from analyze.gradients.device.devices import is_cpu
from analyze.gradients.forms.dots import dot_products
from analyze.gradients.forms.squares import SquaredNorms, in_double, squared_norms

Make = Callable[[int, int], Tensor]  # the gradients of a range of examples, [n, *shape]


class Summary(NamedTuple):
    """Sums and squared norms of the per-example gradients of one parameter over one batch."""

    totals: Tensor  # the gradients' sum over each segment of the batch, [S, *shape]
    squared_norms: Tensor  # [N], float64
    unsure: Tensor | None = None  # [N], of which of these it is not known that they are right


class Reduction:
    """The summary of a parameter's gradients, which come in the order of the examples.

    ``again`` makes those once more whose squares float32 has no room for, where it is known at once
    which these are. Without it each chunk is squared to the end while it is there. ``directions``
    ``[D, *shape]`` are multiplied with each gradient, where there are any.
    """

    def __init__(
        self, segments: Segments, again: Make | None = None, directions: Tensor | None = None
    ) -> None:
        self._segments = segments
        self._again = again
        self._directions = directions
        self._dots: list[Tensor] = []
        self._seen = 0
        self._sums: list[Tensor | None] = [None] * len(segments)
        self._together: Tensor | None = None  # those of a GPU, which takes an operation for all
        self._squares = SquaredNorms()
        self._norms: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """The next n gradients ``[n, ...]``, whose memory may be that of those to come."""
        if self._again is None:
            self._norms.append(squared_norms(values))
        else:
            self._squares.add(values)
        if self._directions is not None:
            self._dots.append(dot_products(values, self._directions))
        self._add_up(values)

    @property
    def dots(self) -> Tensor | None:
        """Dot products with the directions, ``[D, N]`` float64; None where there are none."""
        return torch.cat(self._dots, 1) if self._dots else None

    def summary(self) -> Summary:
        """The summary, once all gradients have come."""
        if self._again is not None:
            return Summary(self._totals(), *self._squares.result(self._again))
        norms = self._norms
        return Summary(self._totals(), norms[0] if len(norms) == 1 else torch.cat(norms))

    def _add_up(self, values: Tensor) -> None:
        start = self._seen
        self._seen += values.shape[0]
        if len(self._segments) > 1 and not is_cpu(values.device):
            sums = self._segments.added_up(values.reshape(len(values), -1), start)
            sums = sums.view(-1, *values.shape[1:])
            self._together = sums if self._together is None else self._together.add_(sums)
            return
        for number, first, end in self._segments.within(start, self._seen):
            some = rows(values, first - start, end - start)
            so_far = self._sums[number]
            if so_far is None:
                self._sums[number] = some[0].clone() if end - first == 1 else some.sum(0)
            else:
                so_far.add_(some[0] if end - first == 1 else some.sum(0))

    def _totals(self) -> Tensor:
        if self._together is not None:
            return self._together
        sums = [total for total in self._sums if total is not None]
        assert len(sums) == len(self._segments), "gradients are missing"
        return stacked(sums)


def reduced(chunks: Iterable[Tensor], segments: Segments, again: Make | None = None) -> Summary:
    """The summary of gradients that come in chunks ``[n, ...]``, as ``Reduction`` takes them."""
    reduction = Reduction(segments, again)
    for values in chunks:
        reduction.add(values)
    return reduction.summary()


def reduced_together(gradients: Sequence[Tensor], segments: Segments) -> list[Summary]:
    """The summaries of small gradients of P parameters, ``[N, *shape]`` each, by few operations."""
    values = torch.stack([*gradients], 1)  # [N, P, *shape]
    reduction = Reduction(segments)
    reduction._add_up(values)
    totals = reduction._totals().unbind(1)
    squares = in_double(values.flatten(0, 1)).view(len(values), -1).unbind(1)
    return [*map(Summary, totals, squares)]
