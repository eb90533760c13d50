"""What a loss must give: the value of each example, and the seed of the backward pass."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

# Entries of the output at a time: few enough to stay in a CPU's cache, or to fill a GPU.
ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 26, "mps": 1 << 24}


class Loss(Protocol):
    """The loss of each example, from an output ``[N, ...]`` and targets ``[N, ...]``."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Each example's loss, ``[N]``; it depends on that example alone."""

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        """Gradient of each example's loss at the output, in the output's shape and dtype."""

    def losses_and_seed(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What ``per_example`` and ``seed`` give, together where that saves something."""
        return self.per_example(output, target), self.seed(output, target)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of each example's predictions that are right, ``[N]``; NaN without a meaning."""

    def check(self, output: Tensor, target: Tensor) -> None:
        """Refuse targets that do not fit the output."""


def first_of(wrong: Tensor) -> int:
    """The first example with a true entry in ``wrong`` ``[N, ...]``."""
    return int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])
