"""A model's output: losses, accuracies, the gradient there, and a backward pass from it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from analyze.errors import out_of_memory
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.device.devices import output_entries
from analyze.gradients.device.sending import sent
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import as_real, double

NEAR_ONE = 8  # powers of two, of the 126 that float32 has
FAR = 120  # of these, too
FLOAT32_DIGITS = 23  # bits of a float32 below its exponent
FLOAT32_ONE = 127 << FLOAT32_DIGITS  # the bits of 1.0


class _AtOutput(NamedTuple):
    """Losses, accuracies and margins of N examples, ``[N]`` float64, and the seed.

    On the output's device; those and ``scale`` on the CPU where it has no float64.
    """

    losses: Tensor
    accuracy: Tensor  # NaN where it has no meaning
    margin: Tensor  # NaN likewise
    seed: Tensor  # gradient of ``scale`` times each example's loss, in the output's shape
    scale: Tensor  # a power of two, of no dimension


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
            losses.append(double(some))
            accuracies.append(double(loss.accuracy(output[rows], targets[rows])))
            margins.append(double(loss.margin(output[rows], targets[rows])))
    scale = _power_of_two(seed)
    of_examples = torch.cat(losses), torch.cat(accuracies), torch.cat(margins)
    return _AtOutput(*of_examples, seed.mul_(scale), scale)


def _power_of_two(seed: Tensor) -> Tensor:
    """Brings a seed far below or above 1 there exactly, far from float32's smallest numbers.

    1 where the largest entry is near it already, is 0 or not finite. A number of the device's: to
    read it would be to wait for all that comes before.
    """
    if not seed.numel():
        return torch.ones((), device=seed.device)
    smallest, largest = (double(value) for value in as_real(seed).aminmax())
    extent = torch.maximum(-smallest, largest)
    exponent = torch.frexp(extent).exponent
    kept = (exponent.abs() <= NEAR_ONE) | ~extent.isfinite()
    exponent = exponent.clamp(-FAR, FAR).masked_fill(kept, 0)
    # The bits of 2^-exponent, as a power by a function may be off by some.
    return (FLOAT32_ONE - exponent.to(torch.int32) * (1 << FLOAT32_DIGITS)).view(torch.float32)


def losses_of(replica: Replica, examples: Examples, loss: Loss) -> np.ndarray:
    """Losses ``[N]`` float64 of N examples, in one pass."""
    with torch.no_grad():
        return losses_at_output(replica(examples.inputs), examples.targets, loss)


def losses_at_output(output: Tensor, targets: Tensor, loss: Loss) -> np.ndarray:
    """Losses ``[N]`` float64 of an output ``[N, ...]``."""
    return _losses(output, targets, loss).cpu().numpy()


def _losses(output: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """``losses_at_output``, where the output is."""
    with torch.no_grad():
        return double(loss.per_example(output, sent(targets, output.device)))


def losses_at(
    replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss, size: int
) -> np.ndarray:
    """Losses ``[N]`` float64 of the probes at ``rows``, ``size`` at a time or as memory allows."""
    while True:
        try:
            parts = np.split(rows, range(size, len(rows), size))
            with torch.no_grad():
                taken = (loader.take(part) for part in parts)
                losses = [_losses(replica(of.inputs), of.targets, loss) for of in taken]
            return torch.cat(losses).cpu().numpy()  # all at once: to read is to wait
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
