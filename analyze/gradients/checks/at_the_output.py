"""Whether an example's loss is its own, and the seed its gradient: told by an output alone."""

from __future__ import annotations

import torch
from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.checks.precision import RELATIVE
from analyze.gradients.checks.refusal import differ
from analyze.gradients.device.devices import device_with_float64
from analyze.gradients.losses import Loss


def check_loss(loss: Loss, output: Tensor, target: Tensor) -> None:
    """Refuse a loss of several examples that is not each one's own; no pass of a model.

    ``output`` ``[N, ...]`` and ``target`` ``[N, ...]`` are of a few probes. Compared is in float64.

    Raises:
        InputError: an example has another loss alone, as where it is divided by the batch.
        AssertionError: the seed of a backward pass is not the gradient of the loss.
    """
    device = device_with_float64(output.device)
    wide = torch.promote_types(output.dtype, torch.float64)  # complex numbers stay complex
    output, target = output.detach().to(device).to(wide), target.to(device)
    _refuse_mixing(loss, output, target)
    _check_seed(loss, output, target)


def _refuse_mixing(loss: Loss, output: Tensor, target: Tensor) -> None:
    """Refuse a loss that gives an example another value alone."""
    with torch.no_grad():
        together, alone = (loss.per_example(output[:n], target[:n]) for n in (len(output), 1))
    if differ(together[:1], alone, torch.float64):
        raise InputError(
            "the loss mixes the examples of a batch",
            found=f"{together[0].item():.6g} for an example beside another, "
            f"{alone[0].item():.6g} for it alone",
            expected="a loss of each example on its own, not divided by the size of the batch",
            fix='compute with reduction="none" and sum over the axes of one example',
        )


def _check_seed(loss: Loss, output: Tensor, target: Tensor) -> None:
    """Assert that the engine's seed is the gradient of the loss that it reports."""
    seed = loss.seed(output, target)  # which says what is wrong with a loss of the user's own
    leaf = output.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(loss.per_example(leaf, target).sum(), leaf)
    if not torch.allclose(seed, expected, rtol=RELATIVE[torch.float64], atol=1e-6):
        raise AssertionError("the seed is not the gradient of the loss")
