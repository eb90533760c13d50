"""The result of one batch: numbers of each example, and of each parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.arriving import Arriving

# A parameter's totals [S, *shape], and the number, a tensor, that makes the sums of them.
TakeTotals = Callable[[str, Tensor, Tensor], None]


class BatchResult:
    """Losses, and the gradients' squared norms and sums, by parameter that received a gradient.

    Gradients are of ``scale`` times the loss: tiny ones stay clear of float32's smallest numbers.
    All but the sums is on its way to the host; the first that is asked for waits for it.

    Args:
        of_examples: Losses, accuracies and margins ``[N]`` float64, NaN where one has no meaning.
        squares: Squared norms ``[N]`` float64 of the scaled gradients, by parameter.
        dots: Dot products ``[D, N]`` float64 of these with D directions, by parameter.
        totals: Sums ``[S, *shape]`` of the scaled gradients; empty where they were taken before.
        scale: A power of two, of no dimension.
    """

    def __init__(
        self,
        of_examples: tuple[Tensor, Tensor, Tensor],
        squares: Mapping[str, Tensor],
        dots: Mapping[str, Tensor],
        totals: dict[str, Tensor],
        scale: Tensor,
    ) -> None:
        self.names = tuple(squares)  # the P parameters that received a gradient
        self.scaled_totals = totals
        self._along = tuple(dots)
        together = [torch.stack([*v.values()]) for v in (squares, dots) if v]
        self._coming = Arriving([scale, *of_examples, *together])

    @property
    def scale(self) -> float:
        """What the gradients were multiplied by."""
        return float(self._read[0])

    @property
    def losses(self) -> np.ndarray:
        """Losses ``[N]`` float64."""
        return self._read[1]

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracies ``[N]`` float64, NaN where they have no meaning."""
        return self._read[2]

    @property
    def margin(self) -> np.ndarray:
        """Margins ``[N]`` float64, NaN where they have no meaning."""
        return self._read[3]

    @cached_property
    def squared_norms(self) -> np.ndarray:
        """Squared norms ``[P, N]`` float64 of the gradients, in the order of ``names``."""
        scaled = self._read[4] if self.names else np.empty((0, len(self.losses)))
        return scaled if self.scale == 1.0 else scaled / self.scale**2

    @cached_property
    def all_dots(self) -> dict[str, Tensor]:
        """Dot products of gradients with D directions, ``[D, N]`` float64 on the CPU, by name."""
        if not self._along:
            return {}
        values = torch.from_numpy(self._read[-1]) / self.scale
        return dict(zip(self._along, values, strict=True))

    def total(self, name: str, segment: int = 0) -> Tensor:
        """The sum over the examples of a segment, in the parameter's shape."""
        total = self.scaled_totals[name][segment]
        return total if self.scale == 1.0 else total / self.scale

    def same_bits(self, other: BatchResult) -> bool:
        """Whether another measurement of the same batch gave the very same numbers."""
        if self.names != other.names or self.scaled_totals.keys() != other.scaled_totals.keys():
            return False
        numbers = zip(
            (self.losses, self.squared_norms), (other.losses, other.squared_norms), strict=True
        )
        if not all(np.array_equal(*pair, equal_nan=True) for pair in numbers):
            return False
        return self.scale == other.scale and all(
            torch.allclose(mine, other.scaled_totals[name], 0.0, 0.0, equal_nan=True)
            for name, mine in self.scaled_totals.items()
        )

    @cached_property
    def _read(self) -> list[np.ndarray]:
        return self._coming.read()
