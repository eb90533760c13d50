"""A model's output: losses, accuracies, and the gradient from which the backward pass starts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.losses import ENTRIES, Loss
from analyze.gradients.numbers.kinds import as_real

NEAR_ONE = 8  # powers of two, of the 126 that float32 has


class AtOutput(NamedTuple):
    """What a loss gives of N examples.

    Args:
        losses: ``[N]`` float64 on the CPU.
        accuracy: ``[N]`` likewise, NaN where it has no meaning.
        seed: Gradient of ``scale`` times the loss of each example, in the output's shape.
        scale: A power of two.
    """

    losses: Tensor
    accuracy: Tensor
    seed: Tensor
    scale: float


def at_the_output(loss: Loss, output: Tensor, targets: Tensor) -> AtOutput:
    """Losses, accuracies and seed of an output ``[N, ...]`` without its graph.

    A few examples at a time: losses work in float64, and a language model's logits are large.
    """
    step = max(1, ENTRIES[output.device.type] * len(output) // max(1, output.numel()))
    losses, accuracies, seed = [], [], torch.empty_like(output)
    with torch.no_grad():
        for start in range(0, len(output), step):
            rows = slice(start, start + step)
            some, seed[rows] = loss.losses_and_seed(output[rows], targets[rows])
            losses.append(some.cpu().double())
            accuracies.append(loss.accuracy(output[rows], targets[rows]).cpu().double())
    scale = _power_of_two(seed)
    return AtOutput(torch.cat(losses), torch.cat(accuracies), seed.mul_(scale), scale)


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
