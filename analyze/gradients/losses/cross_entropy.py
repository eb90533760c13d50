"""Cross-entropy, with a seed of the backward pass that float32 cannot spoil.

Cross-entropy's own backward computes the true-class term as ``p_y - 1``, which float32 rounds to
multiples of 6e-8. Once an example is fitted (loss below 1e-6) nothing of it is left, and the last
layer shows a coherence of a hundred where the truth is one. So the seed is written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.errors import InputError
from analyze.gradients.float64 import double, widest
from analyze.gradients.losses.loss import ENTRIES, Loss, first_of


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy, ``-sum_c t_c log p_c`` with ``t`` the smoothed target distribution.

    Class targets: output ``[N, C]`` with integers ``[N]``; sequences ``[N, T, C]`` with
    ``[N, T]``, or torch's ``[N, C, *positions]`` with ``[N, *positions]``. Soft targets: floats
    in the shape of the output, classes on the last axis. An example's loss is the sum over its
    positions; those whose target is ``ignore_index`` count nothing.

    The seed for class targets is ``p_c - t_c`` for the other classes and minus their sum for the
    true one, from probabilities in float64: its relative error stays at float32's rounding at
    every margin. For soft targets it is ``p_c (T - t_c) - t_c (1 - p_c)`` with ``T`` the sum of
    ``t`` and ``1 - p_c`` added up from the other classes.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        smoothing = self.label_smoothing
        if (
            type(self.ignore_index) is not int
            or isinstance(smoothing, bool | str)
            or not (0.0 <= smoothing < 1.0)
        ):
            raise TypeError(f"ignore_index={self.ignore_index!r}, label_smoothing={smoothing!r}")

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return -(self._smoothed(target) * F.log_softmax(widest(output), -1)).flatten(1).sum(1)
        logits, classes, counted = self._as_sequences(output, target)
        log_p = F.log_softmax(widest(logits), -1)  # [N, T, C]
        losses = -log_p.gather(-1, classes[..., None])[..., 0]
        if self.label_smoothing:
            uniform = -log_p.mean(-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return (losses * counted).sum(1)

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return _soft_seed(widest(output), self._smoothed(target)).to(output)
        return self.losses_and_seed(output, target)[1]

    @torch.no_grad()
    def losses_and_seed(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of class targets the exponentials are taken once, of a few positions at a time."""
        if target.is_floating_point():
            return super().losses_and_seed(output, target)
        logits, classes, counted = self._as_sequences(output, target)
        seed = torch.empty_like(logits, memory_format=torch.contiguous_format)  # [N, T, C]
        rows = (logits.flatten(0, 1), classes.flatten(), counted.flatten(), seed.flatten(0, 1))
        few = max(1, ENTRIES[output.device.type] // logits.shape[-1])
        blocks = zip(*(values.split(few) for values in rows), strict=True)
        losses = torch.cat([self._of_positions(*block) for block in blocks])
        if not self._classes_last(output, target):
            seed = seed.transpose(1, 2)
        return losses.view(classes.shape).sum(1), seed.reshape(output.shape)

    def _of_positions(
        self, logits: Tensor, classes: Tensor, counted: Tensor, seed: Tensor
    ) -> Tensor:
        """The loss of each position, ``[R]`` of ``[R, C]``; its gradient is written to ``seed``."""
        wide, smoothing = widest(logits), self.label_smoothing
        shifted = wide - wide.amax(-1, keepdim=True)
        true, uniform = shifted.gather(-1, classes[:, None]), shifted.mean(-1) if smoothing else 0.0
        delta = shifted.exp_()
        total = delta.sum(-1, keepdim=True)
        logarithm = total.log()
        losses = (logarithm - true)[:, 0]
        delta /= total
        if smoothing:
            losses = (1 - smoothing) * losses + smoothing * (logarithm[:, 0] - uniform)
            delta -= smoothing / logits.shape[-1]
        delta.scatter_(-1, classes[:, None], 0.0)
        delta.scatter_(-1, classes[:, None], -delta.sum(-1, keepdim=True))
        if not counted.all():
            delta *= counted[:, None]
        seed.copy_(delta)
        return losses * counted

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            right = output.argmax(-1) == target.argmax(-1)
            return double(right).reshape(len(right), -1).mean(1)
        logits, classes, counted = self._as_sequences(output, target)
        right = (logits.argmax(-1) == classes) & counted
        return right.sum(1) / counted.sum(1)  # NaN where nothing counts

    def check(self, output: Tensor, target: Tensor) -> None:
        soft = target.is_floating_point() and target.shape == output.shape
        if not soft and (target.is_floating_point() or not self._shapes_fit(output, target)):
            raise InputError(
                "the targets do not fit the model's output",
                found=f"targets {target.dtype} {list(target.shape)}, output {list(output.shape)}",
                expected="integer classes [N] for an output [N, C], or [N, T] for [N, T, C], or "
                "floats in the output's shape: the loss cross_entropy",
                fix="freeze the probes with targets of that shape, or choose another --loss",
            )
        if not soft:
            self._check_range(output, target)

    def _check_range(self, output: Tensor, target: Tensor) -> None:
        classes = output.shape[-1 if self._classes_last(output, target) else 1]
        wrong = (target != self.ignore_index) & ((target < 0) | (target >= classes))
        if wrong.any():
            raise InputError(
                "a target is out of range",
                found=f"target {int(target[wrong][0])} (probe {first_of(wrong)}, counted from 0; "
                f"{int(wrong.sum())} such targets in all)",
                expected=f"classes 0 to {classes - 1}: the model's output has {classes} entries",
                fix="give the probes of this model, or a model with more classes: "
                f"num_classes={max(classes, int(target.max())) + 1}",
            )

    def _smoothed(self, target: Tensor) -> Tensor:
        """Soft targets in float64, mixed with the uniform distribution."""
        uniform = self.label_smoothing / target.shape[-1]
        return (1 - self.label_smoothing) * widest(target) + uniform

    def _as_sequences(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, T, C]``, classes ``[N, T]``, and which of these count."""
        logits = output if self._classes_last(output, target) else output.movedim(1, -1)
        logits = logits.flatten(1, -2) if logits.dim() > 2 else logits[:, None]
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


def _soft_seed(logits: Tensor, target: Tensor) -> Tensor:
    """``p_c T - t_c``, written so that no two large terms cancel."""
    p = logits.softmax(-1)
    largest = p.argmax(-1, keepdim=True)
    others = 1 - p  # exact enough but for the largest, which is at most 1/2 otherwise
    others.scatter_(-1, largest, p.scatter(-1, largest, 0.0).sum(-1, keepdim=True))
    elsewhere = target.sum(-1, keepdim=True) - target
    return torch.addcmul(-target * others, p, elsewhere)
