"""Losses of single examples, and the seed of the backward pass at the model's output.

The seed is the gradient of each example's loss with respect to the output. It is written out
rather than left to autograd: cross-entropy's own backward computes the true-class term as
``p_y - 1``, which float32 rounds to multiples of 6e-8. Once an example is fitted (loss below 1e-6)
nothing of it is left, and the last layer shows a coherence of a hundred where the truth is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from analyze.errors import InputError
from analyze.specs import Spec


class Loss(Protocol):
    """The loss of each example, from an output ``[N, ...]`` and targets ``[N, ...]``."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Each example's loss, ``[N]`` in float64, nats: a sum over its positions, never a mean."""

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        """Gradient of each example's loss at the output, in the output's shape and dtype."""

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of each example's positions that are right, ``[N]``; NaN without a meaning."""

    def check(self, output: Tensor, target: Tensor) -> None:
        """Refuse targets that do not fit the output."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of class targets: ``-sum_c t_c log p_c`` with ``t`` the smoothed one-hot.

    Output ``[N, C]`` with targets ``[N]``; sequences ``[N, T, C]`` with ``[N, T]``, or torch's
    ``[N, C, *positions]`` with ``[N, *positions]``. An example's loss is the sum over its
    positions; those whose target is ``ignore_index`` count nothing.

    The seed is ``p_c - t_c`` for the other classes and minus their sum for the true one, from
    probabilities in float64: its relative error stays at float32's rounding at every margin.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        logits, classes, counted = self._aligned(output, target)
        log_p = F.log_softmax(logits, -1)  # [N, T, C]
        true = -log_p.gather(-1, classes[..., None])[..., 0]
        smoothed = (1 - self.label_smoothing) * true - self.label_smoothing * log_p.mean(-1)
        return (smoothed * counted).sum(1)

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        logits, classes, counted = self._aligned(output, target)
        delta = logits.softmax(-1) - self.label_smoothing / logits.shape[-1]
        delta.scatter_(-1, classes[..., None], 0.0)
        delta.scatter_(-1, classes[..., None], -delta.sum(-1, keepdim=True))
        delta *= counted[..., None]
        if not self._classes_last(output, target):
            delta = delta.transpose(1, 2)
        return delta.reshape(output.shape).to(output)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        logits, classes, counted = self._aligned(output, target)
        right = (logits.argmax(-1) == classes) & counted
        return right.sum(1) / counted.sum(1)  # NaN where nothing counts

    def check(self, output: Tensor, target: Tensor) -> None:
        if target.is_floating_point() or not self._shapes_fit(output, target):
            raise InputError(
                "the targets do not fit the model's output",
                found=f"targets {target.dtype} {list(target.shape)}, output {list(output.shape)}",
                expected="integer classes [N] for an output [N, C], or [N, T] for [N, T, C]: "
                "the loss cross_entropy",
                fix="freeze the probes with integer class targets of that shape",
            )
        classes = output.shape[-1 if self._classes_last(output, target) else 1]
        wrong = (target != self.ignore_index) & ((target < 0) | (target >= classes))
        if wrong.any():
            example = int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])
            raise InputError(
                "a target is out of range",
                found=f"target {int(target[wrong][0])} (probe {example}, counted from 0; "
                f"{int(wrong.sum())} such targets in all)",
                expected=f"classes 0 to {classes - 1}: the model's output has {classes} entries",
                fix=f"give a model with more classes (num_classes={int(target.max()) + 1}), "
                "or probes with the right targets",
            )

    def _aligned(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, T, C]`` in float64, classes ``[N, T]``, and which of these count."""
        logits = output if self._classes_last(output, target) else output.movedim(1, -1)
        logits = logits.flatten(1, -2) if logits.dim() > 2 else logits[:, None]
        if logits.device.type != "mps":  # MPS has no float64; the seed is stable in float32 too
            logits = logits.double()
        classes = target.flatten(1) if target.dim() > 1 else target[:, None]
        counted = classes != self.ignore_index
        return logits, classes.where(counted, 0), counted

    def _classes_last(self, output: Tensor, target: Tensor) -> bool:
        return target.shape == output.shape[:-1]

    def _shapes_fit(self, output: Tensor, target: Tensor) -> bool:
        if output.dim() < 2:
            return False
        return self._classes_last(output, target) or (
            target.shape == output.shape[:1] + output.shape[2:]
        )


LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy}


def build_loss(spec: str) -> Loss:
    """The loss a spec names, such as ``cross_entropy?label_smoothing=0.1``.

    Raises:
        InputError: no such loss, or an argument it does not take.
    """
    parsed = Spec.parse(spec)
    loss = LOSSES.get(parsed.name)
    if loss is None:
        raise InputError(
            "unknown loss",
            found=f"loss {spec!r}",
            expected=f"one of {', '.join(LOSSES)}",
            fix="--loss cross_entropy",
        )
    try:
        return loss(**parsed.arguments)
    except TypeError as error:
        raise InputError(
            "the loss does not take these arguments",
            found=f"loss {spec!r}: {error}",
            expected="cross_entropy?ignore_index=-100&label_smoothing=0.1",
            fix="--loss cross_entropy",
        ) from error
