"""The precision that a model computes in, and how far two ways to one number may differ in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from analyze.gradients.calibrate.recording import Recording
from analyze.gradients.device.sending import sent
from analyze.gradients.model.replica import Replica

# Two exact ways to one example's gradient: relative difference of its squared norm, and of sums.
RELATIVE = {
    torch.float64: 1e-9,
    torch.float32: 1e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 5e-2,
}
# Two measurements of one example in batches of other examples. In float32 decisions at a ReLU or
# a max-pool fall otherwise now and then, in plain autograd as well.
ELSEWHERE = RELATIVE | {torch.float64: 1e-7, torch.float32: 2e-2}
LOSSES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
ROUNDINGS = 64  # of one step of the precision: what rounding adds up to at most
ANEW = 1024  # steps after which rounding has begun anew
LARGEST_ROUNDING = 1e-2  # of the network's gradient, however coarse the precision


def rounding_share(dtype: torch.dtype) -> float:
    """Share of the network's squared gradient norm that rounding may reach: ``(64 eps)^2``.

    Whether a smaller gradient is one is told by its own arithmetic, see ``Autograd.rounding``.
    """
    return min(ROUNDINGS * torch.finfo(dtype).eps, LARGEST_ROUNDING) ** 2


def losses_agree(losses: Tensor | float, expected: Tensor | float, precision: torch.dtype) -> bool:
    """Whether losses are those expected, but for rounding."""
    truth = torch.as_tensor(expected, dtype=torch.float64)
    scale = truth.abs().clamp_min(1.0)
    return bool(((truth - losses).abs() <= LOSSES[precision] * scale).all())


def precision_inside(replica: Replica, recording: Recording) -> torch.dtype:
    """The coarsest precision that a gradient goes through in a pass: layers may lower it inside."""
    carrying = {
        tensor.dtype.to_real()
        for call in recording.counted
        for tensor in call.outputs
        if tensor.requires_grad
    }
    known = [dtype for dtype in (replica.dtype, *carrying) if dtype in RELATIVE]
    return max(known, key=lambda dtype: torch.finfo(dtype).eps)


@contextmanager
def shaken(replica: Replica, precision: torch.dtype, seed: int, steps: int = 1) -> Iterator[None]:
    """In the block every weight is some steps of the precision larger or smaller, at random.

    One step moves a number as far as rounding may. After a thousand, what rounding alone has made
    is another number, which it need not be after one: the probabilities of a softmax, say, miss
    their sum of 1 by the same then. A gradient hardly changes. The seed decides the signs.

    Cost: the weights once more in memory.
    """
    generator = torch.Generator().manual_seed(seed)
    step = steps * torch.finfo(precision).eps
    with weights_restored(replica):
        with torch.no_grad():
            for parameter in replica.parameters.values():
                parameter.mul_(1.0 + step * _signs(parameter, generator))
        yield


@contextmanager
def weights_restored(replica: Replica) -> Iterator[dict[str, Tensor]]:
    """The weights have the same values after the block as before; yields a copy of them."""
    kept = {name: p.detach().clone() for name, p in replica.parameters.items()}
    try:
        yield kept
    finally:
        with torch.no_grad():
            for name, parameter in replica.parameters.items():
                parameter.copy_(kept[name])


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Plus or minus one for each value."""
    ones = torch.randint(0, 2, like.shape, generator=generator)
    return sent(2 * ones - 1, like.device, like.dtype.to_real())
