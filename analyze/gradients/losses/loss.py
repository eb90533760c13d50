"""What a loss must give: the value of each example, and the seed of the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from analyze.errors import InputError


@dataclass(frozen=True)
class Facts:
    """What a loss may look at, besides output and targets, before it takes them.

    ``channels`` gives the axis on which the model's last layers have their channels, where that is
    certain. Cost: a forward pass of two probes.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # [N, ...]; "" is the positional one
    subset: Tensor | None = None  # [N], each probe's code; None where all are of one
    channels: Callable[[], int | None] = lambda: None


NO_FACTS = Facts()


class Loss(Protocol):
    """The loss of each example, from an output ``[N, ...]`` and targets ``[N, ...]``."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Each example's loss, ``[N]``; it depends on that example alone."""

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        """Gradient of each example's loss at the output, in the output's shape and dtype."""

    def losses_and_seed(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The results of ``per_example`` and ``seed``, together where that saves something."""
        return self.per_example(output, target), self.seed(output, target)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of each example's predictions that are right, ``[N]``; NaN without a meaning."""
        return torch.full((len(output),), float("nan"), device=output.device)

    def margin(self, output: Tensor, target: Tensor) -> Tensor:
        """Logit of the target's class minus the largest other, ``[N]``; NaN without a meaning."""
        return torch.full((len(output),), float("nan"), device=output.device)

    def positions(self, target: Tensor) -> Tensor | None:
        """Number of positions (tokens, pixels) in each loss, ``[N]``; None where all have one."""
        return None

    def check(self, output: Tensor, target: Tensor, facts: Facts = NO_FACTS) -> list[str]:
        """Refuse targets that do not fit the output, and settle how they are taken.

        The output is that of some probes, ``[n, ...]``, the targets are all, ``[N, ...]``. Returns
        notes on what was settled that the user should know.

        Raises:
            InputError: they do not fit, or fit in two ways.
        """


def first_of(wrong: Tensor) -> int:
    """The first example with a true entry in ``wrong`` ``[N, ...]``."""
    return int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])


def position_counts(loss: Loss, targets: np.ndarray) -> np.ndarray | None:
    """``loss.positions`` for arrays."""
    counts = loss.positions(torch.from_numpy(targets))
    return None if counts is None else counts.numpy()


def named(shape: Sequence[int], count: int | str = "N") -> str:
    """The shape of N examples, each of ``shape``."""
    return f"[{', '.join(map(str, (count, *shape)))}]"


def check_numbers(name: str, output: Tensor, target: Tensor) -> None:
    """Refuse complex outputs, and targets that are no numbers, by ``InputError``."""
    if output.is_complex():
        raise InputError(
            "the model's output is complex",
            found=f"an output of {output.dtype}",
            expected=f"real numbers: the loss {name}",
            fix="--loss FILE.py:FUNCTION with a real loss of each example",
        )
    wrong = ~target.isfinite()
    if wrong.any():
        raise InputError(
            "the targets are not finite",
            found=f"NaN or infinity in the targets of probe {first_of(wrong)}, counted from 0 "
            f"({int(wrong.sum())} such targets in all)",
            expected=f"finite targets: the loss {name}",
            fix="leave these examples out when the probe set is built, or --loss FILE.py:FUNCTION "
            "that leaves such entries out",
        )
