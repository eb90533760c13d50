"""Which of two gradients is the derivative of the loss, told by the loss alone.

The only judge between two results of autograd: nothing is called a fault of torch without it.
"""

from __future__ import annotations

import torch

from analyze.gradients.checks.precision import weights_restored
from analyze.gradients.checks.reference import Autograd, Gradients
from analyze.gradients.data.loader import Examples
from analyze.gradients.numbers import double
from analyze.gradients.step.output import losses_of

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)  # relative to the weights
NEAR = 0.25  # of the distance between the two, within which a slope sides with one
AGREEING = 2  # steps that must


def derivative_among(
    autograd: Autograd, examples: Examples, k: int, first: Gradients, other: Gradients
) -> int | None:
    """Which of two gradients of example ``k`` central differences side with.

    Along ``d = (first - other) / |first - other|`` the slopes that the two predict are as far
    apart as the gradients are: ``(L(w + h d) - L(w - h d)) / 2h`` is compared with both, best in
    float64.

    Returns:
        0 for the first, 1 for the other, None where the differences do not tell.

    Cost: eight forward passes.
    """
    replica, row = autograd.replica, torch.tensor([k])
    example = Examples(examples.inputs.take(row), examples.targets[row])
    zero = {n: torch.zeros_like(p) for n, p in replica.parameters.items()}
    gap = {n: first.get(n, zero[n]) - other.get(n, zero[n]) for n in zero}
    distance = _product(gap, gap) ** 0.5
    if distance == 0.0:
        return None
    direction = {name: values / distance for name, values in gap.items()}
    slopes = [_product({**zero, **gradient}, direction) for gradient in (first, other)]
    size = sum(float(double(p.detach()).abs().square().sum()) for p in replica.parameters.values())
    measured = [_slope(autograd, example, direction, step * size**0.5) for step in STEPS]
    sides = [sum(abs(s - slope) < NEAR * distance for s in measured) for slope in slopes]
    if max(sides) < AGREEING or sides[0] == sides[1]:
        return None
    return int(sides[1] > sides[0])


def _product(a: Gradients, b: Gradients) -> float:
    return sum(float(double((a[name].conj() * b[name]).real).sum()) for name in a)


def _slope(autograd: Autograd, example: Examples, direction: Gradients, step: float) -> float:
    """The central difference of the loss along the direction; the weights are as before."""
    replica, losses = autograd.replica, []
    with weights_restored(replica) as kept, torch.no_grad():
        for sign in (1, -1):
            for name, parameter in replica.parameters.items():
                parameter.copy_(kept[name] + sign * step * direction[name])
            losses.append(float(losses_of(replica, example, autograd.loss)[0]))
    return (losses[0] - losses[1]) / (2 * step)
