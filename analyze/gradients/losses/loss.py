"""What a loss must give: the value of each example, and the seed of the backward pass."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """The loss of each example, from an output ``[N, ...]`` and targets ``[N, ...]``."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Each example's loss, ``[N]``; it depends on that example alone."""

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        """Gradient of each example's loss at the output, in the output's shape and dtype."""

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of each example's predictions that are right, ``[N]``; NaN without a meaning."""

    def check(self, output: Tensor, target: Tensor) -> None:
        """Refuse targets that do not fit the output."""


def first_of(wrong: Tensor) -> int:
    """The first example with a true entry in ``wrong`` ``[N, ...]``."""
    return int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])
