"""A model's output: losses, accuracies, the gradient there, and a backward pass from it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from analyze.errors import out_of_memory
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.device.devices import output_entries
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import as_real

NEAR_ONE = 8  # powers of two, of the 126 that float32 has


class _AtOutput(NamedTuple):
    """Losses, accuracies, margins of N examples, ``[N]`` float64 on the CPU, and the seed."""

    losses: Tensor
    accuracy: Tensor  # NaN where it has no meaning
    margin: Tensor  # NaN likewise
    seed: Tensor  # gradient of ``scale`` times each example's loss, in the output's shape
    scale: float  # a power of two


def at_the_output(loss: Loss, output: Tensor, targets: Tensor) -> _AtOutput:
    """Losses, accuracies and seed of an output ``[N, ...]`` without its graph.

    A few examples at a time: losses work in float64, and a language model's logits are large.
    """
    step = max(1, output_entries(output.device) * len(output) // max(1, output.numel()))
    losses, accuracies, margins, seed = [], [], [], torch.empty_like(output)
    with torch.no_grad():
        for start in range(0, len(output), step):
            rows = slice(start, start + step)
            some, seed[rows] = loss.losses_and_seed(output[rows], targets[rows])
            losses.append(some.cpu().double())
            accuracies.append(loss.accuracy(output[rows], targets[rows]).cpu().double())
            margins.append(loss.margin(output[rows], targets[rows]).cpu().double())
    scale = _power_of_two(seed)
    of_examples = torch.cat(losses), torch.cat(accuracies), torch.cat(margins)
    return _AtOutput(*of_examples, seed.mul_(scale), scale)


def _power_of_two(seed: Tensor) -> float:
    """Brings a seed far below or above 1 there exactly, far from float32's smallest numbers.

    1 where the largest entry is near it already: sums need not be divided again then.
    """
    if not seed.numel():
        return 1.0
    largest = max(abs(float(value)) for value in as_real(seed).aminmax())
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0
    exponent = math.frexp(largest)[1]
    return 1.0 if abs(exponent) <= NEAR_ONE else 2.0 ** -float(max(-120, min(120, exponent)))


def losses_of(replica: Replica, examples: Examples, loss: Loss) -> np.ndarray:
    """Losses ``[N]`` float64 of N examples, in one pass."""
    with torch.no_grad():
        return losses_at_output(replica(examples.inputs), examples.targets, loss)


def losses_at_output(output: Tensor, targets: Tensor, loss: Loss) -> np.ndarray:
    """Losses ``[N]`` float64 of an output ``[N, ...]``."""
    with torch.no_grad():
        losses = loss.per_example(output, targets.to(output.device))
    return losses.cpu().double().numpy()


def losses_at(
    replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss, size: int
) -> np.ndarray:
    """Losses ``[N]`` float64 of the probes at ``rows``, ``size`` at a time or as memory allows."""
    while True:
        try:
            parts = np.split(rows, range(size, len(rows), size))
            return np.concatenate([losses_of(replica, loader.take(part), loss) for part in parts])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size == 1:
                raise
        size //= 2  # here, where the error holds the failed pass no more


def seeded(output: Tensor, seed: Tensor) -> Tensor:
    """A scalar whose gradient at ``output`` is ``seed``, of the same shape.

    Its gradients are those of ``output`` with ``grad_outputs=seed``, bit for bit. Given the seed in
    that way, torch would load SymPy, to compare two shapes: a third of a second for every program.
    ``output`` itself is not held.
    """
    return cast(Tensor, _Seeded.apply(output, seed))


class _Seeded(torch.autograd.Function):
    """Zero, whose backward pass gives the seed."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, seed: Tensor) -> Tensor:
        ctx.seed = seed
        return output.new_zeros((), dtype=output.real.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.seed, None
