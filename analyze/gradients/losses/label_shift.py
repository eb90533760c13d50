"""Whether a language model's targets are the next tokens, or the tokens that it is given.

Hugging Face's Trainer takes labels that equal the inputs and shifts them itself. Taken as they
are, they ask how well the model copies: where a model has learnt the most, its loss is the highest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.losses.loss import Facts

# Positions that count, and the share of a subset with so many that is not equal by chance: of five
# tokens of two kinds each, one example in sixteen is.
TELLING = ((4, 0.1), (2, 0.5))


def refuse_wrong_shift(
    facts: Facts, target: Tensor, ignore_index: int, shifted: bool, spec: Mapping[int, str]
) -> None:
    """Refuse targets ``[N, T]`` that are the tokens at the same positions, or shifted already.

    They are compared with inputs that are integers in their shape. It must hold at every position
    that counts, for a tenth of a subset (most of it where sequences are short): other labels may be
    wrong on purpose. Where the next tokens are the same ones, as in constant sequences, nothing is
    said. ``shifted`` tells whether the loss shifts the targets, ``spec`` has the loss to type by
    shift.

    Raises:
        InputError: with the ways to say what is meant.
    """
    for name, tokens in _like(facts.inputs, target):
        same, ahead, counted = _compared(tokens, target, ignore_index)
        doubtful = ahead & ~same if shifted else same & ~ahead
        number, among = _part_of_a_subset(doubtful, counted, facts.subset)
        where = f"at every position that counts, in {number} of {among} probes of a subset"
        if number and shifted:
            raise InputError(
                "the targets are shifted already",
                found=f"targets equal to the next token of {name} {where}",
                expected="targets equal to the inputs, of which shift=1 makes the next tokens",
                fix=f"--loss '{spec[0]}'",
            )
        if number:
            raise InputError(
                "the targets are the model's own inputs, not the tokens that follow",
                found=f"targets equal to {name} {where}",
                expected="as the target of a position the token after it; Hugging Face's Trainer "
                "shifts such labels itself, this loss takes them as they are",
                fix=f"--loss '{spec[1]}' to shift them as Trainer does; "
                f"--loss '{spec[0]}' where the model is to copy its input",
            )


def _like(inputs: Mapping[str, Tensor], target: Tensor) -> list[tuple[str, Tensor]]:
    """Inputs that may be the tokens of the targets."""
    return [
        (f"inputs.{name}" if name else "the inputs", values)
        for name, values in inputs.items()
        if not values.is_floating_point() and values.shape == target.shape
    ]


def _compared(tokens: Tensor, target: Tensor, ignore: int) -> tuple[Tensor, Tensor, Tensor]:
    """``[N]`` each: targets equal to the tokens, to those after them; how many of these count."""
    counted = target != ignore
    same = ((tokens == target) | ~counted).all(1)
    ahead = ((tokens[:, 1:] == target[:, :-1]) | ~counted[:, :-1]).all(1)
    return same, ahead, counted[:, :-1].sum(1)  # the last position has no token after it


def _part_of_a_subset(doubtful: Tensor, counted: Tensor, subset: Tensor | None) -> tuple[int, int]:
    """Doubtful and all examples of a subset with too many for chance; else (0, 0)."""
    codes = torch.zeros(len(doubtful), dtype=torch.int64) if subset is None else subset
    for fewest, share in TELLING:
        telling = counted >= fewest
        for code in codes.unique():
            members = telling & (codes == code)
            number, among = int((doubtful & members).sum()), int(members.sum())
            if number > share * among and (number > 1 or number == among):
                return number, among
    return 0, 0
