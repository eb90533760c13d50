"""What one batch gives: of each example, and of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TakeTotals = Callable[[str, Tensor, float], None]  # [S, *shape] of a parameter, and their scale


class OfExamples(NamedTuple):
    """What a batch gives of each of its N examples.

    Args:
        losses: ``[N]``.
        accuracy: ``[N]``.
        names: Of the P parameters that received a gradient.
        squared_norms: ``[P, N]`` float64.
    """

    losses: np.ndarray
    accuracy: np.ndarray
    names: tuple[str, ...]
    squared_norms: np.ndarray


@dataclass(frozen=True)
class BatchResult:
    """What one batch gives.

    Args:
        losses: ``[N]`` float64.
        accuracy: ``[N]`` float64, NaN where it has no meaning.
        scaled_squares: ``[N]`` of every parameter that received a gradient, of ``scale`` times the
            loss: tiny gradients stay clear of float32's smallest numbers.
        scaled_totals: Its sums over the segments, ``[S, *shape]``, where nobody else took them.
        scale: A power of two.
    """

    losses: Tensor
    accuracy: Tensor
    scaled_squares: dict[str, Tensor]
    scaled_totals: dict[str, Tensor]
    scale: float

    def squared_norms(self, name: str) -> Tensor:
        """Of each example's gradient, ``[N]`` float64 on the CPU."""
        return self.scaled_squares[name].cpu() / self.scale**2

    def of_examples(self) -> OfExamples:
        """All but the totals, in the host's memory: one wait for a GPU."""
        names = tuple(self.scaled_squares)
        norms = np.empty((0, len(self.losses)))
        if names:
            squares = torch.stack([*self.scaled_squares.values()])
            norms = squares.cpu().numpy() / self.scale**2
        return OfExamples(self.losses.numpy(), self.accuracy.numpy(), names, norms)

    def total(self, name: str, segment: int = 0) -> Tensor:
        """The sum over the examples of a segment, in the parameter's shape."""
        total = self.scaled_totals[name][segment]
        return total if self.scale == 1.0 else total / self.scale

    def same_bits(self, other: BatchResult) -> bool:
        """Whether another measurement of the same batch gave the very same numbers."""
        exactly = partial(torch.allclose, rtol=0.0, atol=0.0, equal_nan=True)
        return exactly(self.losses, other.losses) and all(
            mine.keys() == yours.keys() and all(exactly(mine[name], yours[name]) for name in mine)
            for mine, yours in (
                (self.scaled_squares, other.scaled_squares),
                (self.scaled_totals, other.scaled_totals),
            )
        )
