"""Cross-entropy, with a seed of the backward pass that float32 cannot spoil.

Cross-entropy's own backward computes the true-class term as ``p_y - 1``, which float32 rounds to
multiples of 6e-8. Once an example is fitted (loss below 1e-6) nothing of it is left, and the last
layer shows a coherence of a hundred where the truth is one. So the seed is written out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.errors import InputError
from analyze.gradients.device.devices import is_cpu, output_entries
from analyze.gradients.losses import class_axis as axes
from analyze.gradients.losses.class_weights import check_weights, weights_for, weights_of
from analyze.gradients.losses.label_shift import refuse_wrong_shift
from analyze.gradients.losses.loss import (
    NO_FACTS,
    Facts,
    Loss,
    check_numbers,
    first_of,
    named,
)
from analyze.gradients.numbers import double, widest

SUM_TO_ONE = 1e-4
PROBABILITIES = (
    "the model's outputs are probabilities, and cross_entropy takes them for logits, as torch's "
    "own does: if the model was trained with their logarithm, measure it without its softmax"
)


@dataclass
class CrossEntropy(Loss):
    """Cross-entropy, ``-sum_c w_c t_c log p_c`` with ``t`` the smoothed target distribution.

    Class targets: output ``[N, C]`` with integers ``[N]``; sequences ``[N, T, C]`` with
    ``[N, T]``, or torch's ``[N, C, *positions]`` with ``[N, *positions]``. Soft targets: floats
    in the shape of the output. An example's loss is the sum over its positions; those whose
    target is ``ignore_index`` count nothing.

    The seed for class targets is ``p_c T - w_c t_c`` for the other classes, ``T`` the sum of
    ``w_c t_c``, and minus their sum for the true one, from probabilities in float64: its relative
    error stays at float32's rounding at every margin. For soft targets it is
    ``p_c (T - w_c t_c) - w_c t_c (1 - p_c)`` with ``1 - p_c`` added up from the other classes.

    Args:
        ignore_index: The class that marks positions that do not count.
        label_smoothing: Share of the uniform distribution in the targets.
        shift: A position's target is the one so many further on, as ``transformers`` takes labels
            that equal the inputs; the last ones have none. None is 0 unsaid: targets that are the
            inputs themselves are refused.
        class_axis: The output's axis of classes; None for the one that fits, see ``class_axis``.
        weight: The weights ``w`` of the classes, numbers with commas between; None for 1 each. They
            are not divided by their sum over a batch.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0
    shift: int | None = None
    class_axis: int | None = None
    weight: str | None = None
    _settled: int | None = field(default=None, init=False, repr=False, compare=False)
    _weights: tuple[float, ...] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._weights = weights_of(self.weight)
        smoothing, shift, axis = self.label_smoothing, self.shift, self.class_axis
        if (
            type(self.ignore_index) is not int
            or isinstance(smoothing, bool | str)
            or not (0.0 <= smoothing < 1.0)
            or not (shift is None or (type(shift) is int and shift >= 0))
            or not (axis is None or (type(axis) is int and axis != 0))
        ):
            raise TypeError(
                f"ignore_index={self.ignore_index!r}, label_smoothing={smoothing!r}, "
                f"shift={shift!r}, class_axis={axis!r}"
            )

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Losses by torch's own operations, with which the written-out seed is compared."""
        if target.is_floating_point():
            logits, soft = self._as_distributions(output, target)
            return -(soft * F.log_softmax(widest(logits), -1)).flatten(1).sum(1)
        logits, classes, counted = self._as_sequences(output, target)
        log_p = F.log_softmax(widest(logits), -1)  # [N, T, C]
        if self._weights is not None:
            log_p = log_p * weights_for(self._weights, log_p)
        losses = -log_p.gather(-1, classes[..., None])[..., 0]
        if self.label_smoothing:
            uniform = -log_p.mean(-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return (losses * counted).sum(1)

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        if not target.is_floating_point():
            return self.losses_and_seed(output, target)[1]
        logits, soft = self._as_distributions(output, target)
        return _soft_seed(widest(logits), soft).movedim(-1, self._axis(output, target)).to(output)

    @torch.no_grad()
    def losses_and_seed(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and seed; class targets take the exponentials once, a few positions at a time."""
        if target.is_floating_point():
            return super().losses_and_seed(output, target)
        logits, classes, counted = self._as_sequences(output, target)
        seed = torch.empty_like(logits, memory_format=torch.contiguous_format)  # [N, T, C]
        rows = (logits.flatten(0, 1), classes.flatten(), counted.flatten(), seed.flatten(0, 1))
        few = max(1, output_entries(output.device) // logits.shape[-1])
        blocks = zip(*(values.split(few) for values in rows), strict=True)
        losses = torch.cat([self._of_positions(*block) for block in blocks])
        axis = self._axis(output, target)
        moved = output.movedim(axis, -1).shape  # [N, *positions, C]
        return losses.view(classes.shape).sum(1), seed.view(moved).movedim(-1, axis)

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
        if self._weights is not None:
            losses = self._weighted(losses, classes, wide, delta)
        elif smoothing:
            losses = (1 - smoothing) * losses + smoothing * (logarithm[:, 0] - uniform)
            delta -= smoothing / logits.shape[-1]
        delta.scatter_(-1, classes[:, None], 0.0)
        delta.scatter_(-1, classes[:, None], -delta.sum(-1, keepdim=True))
        if not (is_cpu(counted.device) and counted.all()):  # to look is to wait for a GPU
            delta *= counted[:, None]
        seed.copy_(delta)
        return losses * counted

    def _weighted(self, losses: Tensor, classes: Tensor, logits: Tensor, delta: Tensor) -> Tensor:
        """Losses ``[R]`` by the weights of the classes; probabilities ``delta`` become the seed."""
        assert self._weights is not None
        smoothing, weights = self.label_smoothing, weights_for(self._weights, logits)
        own = (1 - smoothing) * weights[classes]
        delta *= (own + smoothing * weights.mean())[:, None]
        delta -= smoothing / logits.shape[-1] * weights
        if not smoothing:
            return own * losses
        return own * losses - smoothing * (weights * logits.log_softmax(-1)).mean(-1)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            axis = self._axis(output, target)
            right = output.argmax(axis) == target.argmax(axis)
            return double(right).reshape(len(right), -1).mean(1)
        logits, classes, counted = self._as_sequences(output, target)
        right = (logits.argmax(-1) == classes) & counted
        return right.sum(1) / counted.sum(1)  # NaN where nothing counts

    def margin(self, output: Tensor, target: Tensor) -> Tensor:
        """As of any loss; NaN for soft targets, targets per position and those ignored."""
        if target.is_floating_point() or target[:1].numel() != 1:
            return super().margin(output, target)
        logits, classes, counted = (side[:, 0] for side in self._as_sequences(output, target))
        place, logits = classes[:, None], double(logits)
        own = logits.gather(1, place.to(logits.device))[:, 0]
        if logits.shape[1] < 2:
            return super().margin(output, target)
        others = logits.scatter(1, place.to(logits.device), -torch.inf).amax(1)
        return torch.where(counted.to(own.device), own - others, torch.nan)

    def positions(self, target: Tensor) -> Tensor | None:
        if target.dim() - target.is_floating_point() < 2:
            return None
        if not target.is_floating_point():
            return (self._shifted(target) != self.ignore_index).flatten(1).sum(1)
        each = target[0].numel() // target.shape[self._axis(target, target)]
        return torch.full((len(target),), each)

    def check(self, output: Tensor, target: Tensor, facts: Facts = NO_FACTS) -> list[str]:
        check_numbers("cross_entropy", output, target)
        candidates = self._candidates(output, target)
        if candidates is None:
            raise self._misfit(output, target)
        notes: list[str] = []
        if self.class_axis is None:
            channels = facts.channels() if len(candidates.fitting) > 1 else None
            self._settled, notes = candidates.settled(channels)
        notes = notes + self._check_classes(output, target)
        if target.is_floating_point():
            self._check_soft(target)
            return notes
        self._check_range(output, target)
        self._check_shift(output, target, facts)
        return notes + self._check_counted(target)

    def _check_classes(self, output: Tensor, target: Tensor) -> list[str]:
        """Refuse a single class, whose loss is always 0; note outputs that are no logits."""
        axis = self._axis(output, target)
        if self._weights is not None:
            check_weights(self._weights, output.shape[axis])
        if output.shape[axis] == 1:
            raise InputError(
                "cross-entropy of one class is always 0",
                found=f"an output {named(output.shape[1:], len(target))}, one entry on axis {axis}",
                expected="an entry for each class, two or more: the loss cross_entropy",
                fix="--loss binary_cross_entropy_with_logits, with targets as floats in the "
                "output's shape",
            )
        off = (output.detach().double().sum(axis) - 1).abs()
        probabilities = bool((output >= 0).all() and (off < SUM_TO_ONE).all())
        return [PROBABILITIES] if probabilities else []

    def _candidates(self, output: Tensor, target: Tensor) -> axes.Candidates | None:
        """On which axes the classes may stand; None where targets and output do not fit."""
        shape, wanted = output.shape[1:], target.shape[1:]
        specs = {axis: self._spec(class_axis=axis) for axis in (axes.TORCH, axes.LAST)}
        if self.class_axis is not None:
            axis = self.class_axis + output.dim() * (self.class_axis < 0)
            fits = 1 <= axis < output.dim() and wanted == (
                shape if target.is_floating_point() else shape[: axis - 1] + shape[axis:]
            )
            return axes.Candidates((axis,), shape, "", specs) if fits else None
        if not target.is_floating_point():
            return axes.of_class_targets(shape, wanted, specs)
        return axes.of_soft_targets(target, specs) if shape == wanted and shape else None

    def _misfit(self, output: Tensor, target: Tensor) -> InputError:
        fix = "freeze the probes with targets of that shape, or choose another --loss"
        if target.is_floating_point() and self._whole(output, target):
            fix = "freeze the probes with targets.long(): these floats are classes"
        elif not target.is_floating_point() and target.shape[1:] == output.shape[1:] != ():
            fix = "freeze the probes with targets.float(), as soft targets, or with classes"
        axis = "" if self.class_axis is None else f", classes on axis {self.class_axis}"
        return InputError(
            "the targets do not fit the model's output",
            found=f"targets {target.dtype} {list(target.shape)}, output "
            f"{named(output.shape[1:], len(target))}{axis}",
            expected="integer classes [N] for an output [N, C], or [N, T] for [N, T, C], or "
            "floats in the output's shape: the loss cross_entropy",
            fix=fix,
        )

    def _whole(self, output: Tensor, target: Tensor) -> bool:
        """Whether floats are classes."""
        fit = axes.of_class_targets(output.shape[1:], target.shape[1:], {})
        return fit is not None and bool((target == target.round()).all())

    def _check_soft(self, target: Tensor) -> None:
        if self.shift:
            raise InputError(
                "soft targets are not shifted",
                found=f"targets {target.dtype} {named(target.shape[1:])} with shift={self.shift}",
                expected="integer classes [N, T]: the loss cross_entropy",
                fix=f"freeze the probes with shifted targets: --loss '{self._spec(shift=None)}'",
            )

    def _check_range(self, output: Tensor, target: Tensor) -> None:
        classes = output.shape[self._axis(output, target)]
        wrong = (target != self.ignore_index) & ((target < 0) | (target >= classes))
        if not wrong.any():
            return
        first, more = int(target[wrong][0]), max(classes, int(target.max())) + 1
        fix = f"give the probes of this model, or a model with more classes: num_classes={more}"
        if bool((target[wrong] == first).all()):
            fix = f"--loss '{self._spec(ignore_index=first)}' if {first} marks what is not to " + (
                f"count; else {fix}"
            )
        raise InputError(
            "a target is out of range",
            found=f"target {first} (probe {first_of(wrong)}, counted from 0; "
            f"{int(wrong.sum())} such targets in all)",
            expected=f"classes 0 to {classes - 1}: the model's output has {classes} entries",
            fix=fix,
        )

    def _check_shift(self, output: Tensor, target: Tensor, facts: Facts) -> None:
        sequences = target.dim() == 2 and output.dim() == 3
        if self.shift and not sequences:
            raise InputError(
                "only sequences can be shifted",
                found=f"targets {named(target.shape[1:])} with shift={self.shift}",
                expected="targets [N, T] for an output [N, T, C]",
                fix=f"--loss '{self._spec(shift=None)}'",
            )
        if not sequences or self.shift == 0:
            return
        specs = {shift: self._spec(shift=shift) for shift in (0, 1)}
        refuse_wrong_shift(facts, target, self.ignore_index, self.shift is not None, specs)

    def _check_counted(self, target: Tensor) -> list[str]:
        """An example none of whose targets counts has loss and gradient 0."""
        counted = (self._shifted(target) != self.ignore_index).reshape(len(target), -1).any(1)
        if not counted.any():
            raise InputError(
                "no target counts",
                found=f"all targets of all {len(target)} probes are {self.ignore_index}, the "
                "ignore_index" + (f", or have no token {self.shift} further on" * bool(self.shift)),
                expected="some targets that count: the loss cross_entropy",
                fix="freeze the probes with their targets, or another ignore_index",
            )
        none = len(target) - int(counted.sum())
        if not none:
            return []
        return [
            f"{none} of {len(target)} probes have no target that counts (all are ignore_index="
            f"{self.ignore_index}), the first is probe {first_of(~counted)}, counted from 0: their "
            "loss and gradient are 0, and they count among the m examples"
        ]

    def _spec(self, **changes: int | None) -> str:
        """The loss as it is typed, with some arguments changed."""
        values = {f: changes.get(f.name, getattr(self, f.name)) for f in fields(self) if f.init}
        kept = [f"{f.name}={value}" for f, value in values.items() if value != f.default]
        return "cross_entropy" + ("?" + "&".join(kept) if kept else "")

    def _as_distributions(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and smoothed soft targets in float64, classes last."""
        axis = self._axis(output, target)
        soft = widest(target).movedim(axis, -1)
        uniform = self.label_smoothing / soft.shape[-1]
        smoothed = (1 - self.label_smoothing) * soft + uniform
        if self._weights is not None:
            smoothed = smoothed * weights_for(self._weights, smoothed)
        return output.movedim(axis, -1), smoothed

    def _as_sequences(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, T, C]``, classes ``[N, T]``, and which of these count."""
        logits = output.movedim(self._axis(output, target), -1)
        logits = logits.flatten(1, -2) if logits.dim() > 2 else logits[:, None]
        classes = self._shifted(target)
        classes = classes.flatten(1) if classes.dim() > 1 else classes[:, None]
        counted = classes != self.ignore_index
        return logits, classes.where(counted, 0), counted

    def _shifted(self, target: Tensor) -> Tensor:
        """Targets ``[N, T]`` from further on; the last positions have none, and count nothing."""
        if not self.shift or target.dim() != 2:
            return target
        return F.pad(
            target[:, self.shift :], (0, min(self.shift, target.shape[1])), value=self.ignore_index
        )

    def _axis(self, output: Tensor, target: Tensor) -> int:
        """The axis of the classes: as said, as settled by ``check``, or the last that fits."""
        axis = self.class_axis if self.class_axis is not None else self._settled
        if axis is None:
            last = target.is_floating_point() or target.shape == output.shape[:-1]
            axis = axes.LAST if last else axes.TORCH
        return axis % output.dim()


def _soft_seed(logits: Tensor, target: Tensor) -> Tensor:
    """``p_c T - t_c``, written so that no two large terms cancel."""
    p = logits.softmax(-1)
    largest = p.argmax(-1, keepdim=True)
    others = 1 - p  # exact enough but for the largest, which is at most 1/2 otherwise
    others.scatter_(-1, largest, p.scatter(-1, largest, 0.0).sum(-1, keepdim=True))
    elsewhere = target.sum(-1, keepdim=True) - target
    return torch.addcmul(-target * others, p, elsewhere)
