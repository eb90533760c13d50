"""The reference: plain autograd on the model left alone, by which everything else is judged.

One example at a time; beside itself, halved, where torch's backward pass is wrong for a batch of
one; one example of a batch; or a batch as a whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.checks.precision import shaken
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Inputs, Replica
from analyze.gradients.numbers.float64 import double
from analyze.gradients.numbers.kinds import as_real
from analyze.gradients.step.seeding import seeded

Gradients = dict[str, Tensor]  # of the parameters that have one, in their shapes


@dataclass(frozen=True)
class Reference:
    """What plain autograd gives of N examples.

    Args:
        squared_norms: ``[N]`` float64 of each parameter that any example gives a gradient.
        totals: Sums of the gradients.
        losses: ``[N]`` float64.
    """

    squared_norms: dict[str, Tensor]
    totals: Gradients
    losses: Tensor

    @property
    def network(self) -> Tensor:
        """Squared norm of each example's whole gradient, ``[N]``."""
        norms = [*self.squared_norms.values()]
        return torch.stack(norms).sum(0) if norms else torch.zeros_like(self.losses)


def alone(
    replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss, copies: int = 1
) -> Reference:
    """Each example on its own.

    Args:
        replica: The model.
        inputs: N examples.
        targets: ``[N, ...]``.
        loss: Of one of them.
        copies: How often an example stands in its batch, whose gradient is divided by that.

    Cost: a forward and a backward pass for each example.
    """
    count = len(inputs)
    norms: dict[str, Tensor] = {}
    totals: Gradients = {}
    losses = torch.zeros(count, dtype=torch.float64)
    for k in range(count):
        losses[k], gradients = of_one(replica, inputs, targets, loss, k, copies)
        for name, gradient in gradients.items():
            norms.setdefault(name, torch.zeros(count, dtype=torch.float64))
            norms[name][k] = squared_norm(gradient)
            totals[name] = totals[name] + gradient if name in totals else gradient
    return Reference(norms, totals, losses)


def of_one(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    k: int,
    copies: int = 1,
    names: Collection[str] | None = None,
) -> tuple[float, Gradients]:
    """Loss and gradients of example ``k`` without any other; of all parameters, or of some."""
    rows = torch.tensor([k] * copies)
    losses, gradients = together(replica, inputs.take(rows), targets[rows], loss, names=names)
    return float(losses[0]), {name: g / copies for name, g in gradients.items()}


def beside_others(
    replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss, k: int
) -> tuple[float, Gradients]:
    """Loss and gradients of example ``k`` in the batch."""
    losses, gradients = together(replica, inputs, targets, loss, only=k)
    return float(losses[k]), gradients


def together(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    only: int | None = None,
    names: Collection[str] | None = None,
) -> tuple[Tensor, Gradients]:
    """Losses ``[N]`` and the sum of the gradients of a batch, or the gradient of one of it.

    Args:
        replica: The model.
        inputs: The batch.
        targets: ``[N, ...]``.
        loss: Of each example; the backward pass starts from its seed, as the engine's does.
        only: The one example whose gradients are taken.
        names: Of the parameters wanted; all by default.

    Cost: a forward and a backward pass.
    """
    wanted = [name for name in replica.parameters if names is None or name in names]
    for name, parameter in replica.parameters.items():
        parameter.requires_grad_(name in wanted)
    output = replica(inputs)
    target = targets.to(output.device)
    with torch.no_grad():
        losses = loss.per_example(output.detach(), target)
        seed = loss.seed(output.detach(), target)
    if only is not None:
        kept = seed[only].clone()
        seed = torch.zeros_like(seed)
        seed[only] = kept
    found: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if output.requires_grad and wanted:
        leaves = [replica.parameters[name] for name in wanted]
        found = torch.autograd.grad(seeded(output, seed), leaves, allow_unused=True)
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)
    gradients = {  # embeddings may give sparse ones
        n: g.to_dense() for n, g in zip(wanted, found, strict=True) if g is not None
    }
    return losses.detach().cpu().double(), gradients


def rounding_of(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    names: Collection[str],
    precision: torch.dtype,
    copies: int = 1,
    steps: int = 1,
) -> dict[str, Tensor]:
    """How much of each example's gradient is rounding, by the parameter's own arithmetic.

    ``e_i^2 = |g_i(w) - g_i(w')|^2`` where each weight of ``w'`` is ``steps`` of the precision off,
    the largest of two trials: of the size of ``|g_i|^2`` where there is nothing but rounding, if
    the steps are ``precision.ANEW``.

    Returns:
        ``[N]`` float64 for each of the parameters ``names`` that has a gradient.

    Cost: three forward and backward passes for each example.
    """
    found: dict[str, Tensor] = {}
    for k in range(len(inputs)):
        _, steady = of_one(replica, inputs, targets, loss, k, copies, names)
        for trial in range(2):
            with shaken(replica, precision, 2 * k + trial, steps):
                _, moved = of_one(replica, inputs, targets, loss, k, copies, names)
            for name in steady.keys() & moved.keys():
                found.setdefault(name, torch.zeros(len(inputs), dtype=torch.float64))
                change = squared_norm(steady[name] - moved[name])
                found[name][k] = max(float(found[name][k]), change)
    return found


def squared_norm(gradient: Tensor) -> float:
    """``|g|^2`` in float64; of complex values the sum of those of both parts."""
    return float(double(as_real(gradient)).square().sum())
