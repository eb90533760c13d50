"""The result of one batch: numbers of each example, and of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

TakeTotals = Callable[[str, Tensor, float], None]  # [S, *shape] of a parameter, and their scale


@dataclass(frozen=True)
class BatchResult:
    """Losses, and the gradients' squared norms and sums, by parameter that received a gradient.

    Gradients are of ``scale`` times the loss: tiny ones stay clear of float32's smallest numbers.
    """

    losses: Tensor  # [N] float64
    accuracy: Tensor  # [N] float64, NaN where it has no meaning
    scaled_squares: dict[str, Tensor]  # [N]
    scaled_totals: dict[str, Tensor]  # [S, *shape]; empty where they were taken before
    scale: float  # a power of two
    scaled_dots: dict[str, Tensor] = field(default_factory=dict)  # [D, N] with D directions
    margin: Tensor | None = None  # [N] float64, NaN where it has no meaning

    @property
    def names(self) -> tuple[str, ...]:
        """The P parameters that received a gradient."""
        return tuple(self.scaled_squares)

    def squared_norms(self, name: str) -> Tensor:
        """Squared norms of the examples' gradients, ``[N]`` float64 on the CPU."""
        return self.scaled_squares[name].cpu() / self.scale**2

    @cached_property
    def all_squared_norms(self) -> np.ndarray:
        """Squared norms ``[P, N]`` float64 on the CPU, in the order of ``names``."""
        if not self.names:
            return np.empty((0, len(self.losses)))
        return torch.stack([*self.scaled_squares.values()]).cpu().numpy() / self.scale**2

    @cached_property
    def all_dots(self) -> dict[str, Tensor]:
        """Dot products of gradients with D directions, ``[D, N]`` float64 on the CPU, by name."""
        if not self.scaled_dots:
            return {}
        together = torch.stack([*self.scaled_dots.values()]).cpu() / self.scale  # in one copy
        return dict(zip(self.scaled_dots, together, strict=True))

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
