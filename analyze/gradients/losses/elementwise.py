"""Losses that are a mean over the elements of an example: squared error, binary cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from analyze.errors import InputError
from analyze.gradients.losses.loss import NO_FACTS, Facts, Loss, check_numbers, first_of, named
from analyze.gradients.numbers import double, widest


@dataclass(frozen=True)
class SquaredError(Loss):
    """``mean_k (output_k - target_k)^2`` over the K elements of an example; targets as floats."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        difference = widest(output) - widest(target)
        return difference.reshape(len(output), -1).square().mean(1)

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        difference = widest(output) - widest(target)
        return (difference * (2 / output[0].numel())).to(output)

    def check(self, output: Tensor, target: Tensor, facts: Facts = NO_FACTS) -> list[str]:
        _check_shape("mse", output, target)
        return []


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """``mean_k -t_k log s(x_k) - (1 - t_k) log s(-x_k)``, ``s`` the logistic function.

    Targets between 0 and 1 in the shape of the output. The seed is ``(1 - t) s(x) - t s(-x)``:
    torch's own ``s(x) - t`` is 0 in float32 from a logit of 17.
    """

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(
            widest(output), widest(target), reduction="none"
        )
        return losses.reshape(len(output), -1).mean(1)

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        x, t = widest(output), widest(target)
        delta = (1 - t) * x.sigmoid() - t * (-x).sigmoid()
        return (delta / output[0].numel()).to(output)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        right = (output > 0) == (target > 0.5)
        return double(right).reshape(len(output), -1).mean(1)

    def check(self, output: Tensor, target: Tensor, facts: Facts = NO_FACTS) -> list[str]:
        _check_shape("binary_cross_entropy_with_logits", output, target)
        wrong = (target < 0) | (target > 1)
        if wrong.any():
            raise InputError(
                "a target is out of range",
                found=f"target {target[wrong][0].item()} (probe {first_of(wrong)}, counted from 0)",
                expected="targets between 0 and 1: the loss binary_cross_entropy_with_logits",
                fix="freeze the probes with probabilities, or choose another --loss",
            )
        return []


def _check_shape(name: str, output: Tensor, target: Tensor) -> None:
    """Never by broadcasting: torch makes ``[N, N]`` of ``[N, 1]`` and ``[N]``."""
    check_numbers(name, output, target)
    shape, wanted = target.shape[1:], output.shape[1:]
    if shape == wanted:
        return
    fix = "freeze the probes with targets of that shape, or choose another --loss"
    if shape.numel() == wanted.numel():
        fix = f"freeze the probes with targets.reshape({', '.join(map(str, (-1, *wanted)))})"
    raise InputError(
        "the targets do not fit the model's output",
        found=f"targets {list(target.shape)}, output {named(wanted, len(target))}",
        expected=f"targets in the shape of the output: the loss {name}",
        fix=fix,
    )
