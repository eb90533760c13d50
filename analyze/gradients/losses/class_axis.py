"""Which axis of the output has the classes: the one that fits, and never one of two in silence.

Torch's ``cross_entropy`` takes axis 1, ``[N, C, *positions]``; language models give
``[N, *positions, C]``. Class targets have the output's shape without that axis; soft targets have
its shape, and sum to one along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.losses.loss import named

ROUNDED = 1e-2  # sums of soft targets, which may have been kept in half precision
LAST = -1
TORCH = 1
NOTE = (
    "the classes may stand on axis 1 or on axis -1 of the output {output}: axis 1 was taken, as "
    "torch does, since there the model's last convolution has its channels; otherwise {last}"
)


class Candidates(NamedTuple):
    """Axes on which the classes may stand, and how the spec names one of them."""

    fitting: tuple[int, ...]  # those of 1 and -1 that fit
    output: Sequence[int]  # the shape of one example's output
    evidence: str  # what was looked at, in words
    specs: dict[int, str]  # by axis, a whole spec that names it

    def settled(self, channels: int | None) -> tuple[int, list[str]]:
        """The axis, with a note where the model's channels decided.

        Raises:
            InputError: two fit, or soft targets are no distribution along any.
        """
        if len(self.fitting) == 1:
            return self.fitting[0], []
        if self.fitting and channels == TORCH:
            return TORCH, [NOTE.format(output=named(self.output), last=self.specs[LAST])]
        raise InputError(
            "two axes of the output may have the classes",
            found=self.evidence,
            expected="one that fits: torch.nn.functional.cross_entropy takes axis 1, "
            "[N, C, *positions]; language models have axis -1, [N, *positions, C]",
            fix=f"--loss '{self.specs[TORCH]}' or --loss '{self.specs[LAST]}'",
        )


def of_class_targets(
    output: Sequence[int], target: Sequence[int], specs: dict[int, str]
) -> Candidates | None:
    """Axes that fit the shapes of one example's output and target; None where none does."""
    shape, wanted = tuple(output), tuple(target)
    if not shape:
        return None
    first, last = shape[1:] == wanted, shape[:-1] == wanted
    if not (first or last):
        return None
    same = len(shape) == 1 or max(shape) == 1  # one axis, or nothing to choose
    both = {TORCH: first, LAST: last}
    fitting = (LAST,) if same else tuple(axis for axis, fits in both.items() if fits)
    evidence = f"targets {named(target)} fit both axis 1 and axis -1 of the output {named(output)}"
    return Candidates(fitting, shape, evidence, specs)


def of_soft_targets(target: Tensor, specs: dict[int, str]) -> Candidates:
    """Axes along which targets ``[N, ...]`` sum to one, or to zero where a position has none."""
    shape = target.shape[1:]
    if len(shape) == 1 or max(shape) == 1:
        return Candidates((LAST,), shape, "", specs)
    sums = {axis: target.double().sum(axis) for axis in (TORCH, LAST) if target.shape[axis] > 1}
    ones = {axis: (total - 1).abs() <= ROUNDED for axis, total in sums.items()}
    fitting = tuple(axis for axis, is_one in ones.items() if is_one.all())
    if not fitting:  # padding has no target
        empty = {axis: (target == 0).all(axis) for axis in sums}
        fitting = tuple(axis for axis, is_one in ones.items() if (is_one | empty[axis]).all())
    along = " and ".join(
        f"to {float(total.min()):.4g} ... {float(total.max()):.4g} along axis {axis}"
        for axis, total in sums.items()
    )
    return Candidates(fitting, shape, f"soft targets {named(shape)} sum {along}", specs)
