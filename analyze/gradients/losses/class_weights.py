"""Weights of classes in cross-entropy: ``cross_entropy?weight=1,2.5,1``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analyze.errors import InputError, listed


def weights_of(text: object) -> tuple[float, ...] | None:
    """The weight of each class from numbers with commas between; None for no weights.

    Raises:
        TypeError: they are not two or more numbers from 0 on.
    """
    if text is None:
        return None
    try:
        weights = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        weights = ()
    if (
        len(weights) < 2
        or not any(weights)
        or not all(math.isfinite(w) and w >= 0 for w in weights)
    ):
        raise TypeError(
            f"weight={text!r}, and not two or more numbers from 0 on with commas between"
        )
    return weights


def weights_for(weights: tuple[float, ...], logits: Tensor) -> Tensor:
    """The weights ``[C]`` in precision and place of logits ``[..., C]``."""
    return torch.tensor(weights, dtype=logits.dtype, device=logits.device)


def check_weights(weights: tuple[float, ...], classes: int) -> None:
    """Refuse weights of another number than the model has classes.

    Raises:
        InputError: naming both.
    """
    if len(weights) != classes:
        raise InputError(
            "the weights of the classes do not fit the model",
            found=f"{len(weights)} weights, {listed([f'{w:g}' for w in weights], 4)}, and "
            f"{classes} classes in the model's output",
            expected="a weight for each class: the loss cross_entropy",
            fix=f"--loss 'cross_entropy?weight=' and {classes} numbers with commas between",
        )
