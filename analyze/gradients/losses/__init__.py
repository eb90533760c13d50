"""Losses of single examples, by spec: ``cross_entropy?label_smoothing=0.1``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from analyze.errors import InputError
from analyze.gradients.losses.cross_entropy import CrossEntropy
from analyze.gradients.losses.elementwise import BinaryCrossEntropy, SquaredError
from analyze.gradients.losses.loss import Facts, Loss, position_counts
from analyze.gradients.losses.user import UserLoss
from analyze.specs.spec import Spec
from analyze.specs.user_code import load_function

LOSSES: dict[str, Callable[..., Loss]] = {
    "binary_cross_entropy_with_logits": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "mse": SquaredError,
}


def build_loss(spec: str) -> Loss:
    """The loss a spec names: one of ``LOSSES``, or a function in a Python file.

    Raises:
        InputError: no such loss, or an argument it does not take.
    """
    parsed = Spec.parse(spec)
    source, _, name = parsed.name.rpartition(":")
    if source:
        function = load_function(source, name, "loss")
        return UserLoss(function, parsed.arguments, spec)
    loss = LOSSES.get(parsed.name)
    if loss is None:
        raise InputError(
            "unknown loss",
            found=f"loss {spec!r}",
            expected=f"one of {', '.join(LOSSES)}, or FILE.py:FUNCTION",
            fix="--loss cross_entropy",
        )
    try:
        return loss(**parsed.arguments)
    except TypeError as error:
        raise InputError(
            "the loss does not take these arguments",
            found=f"loss {spec!r}: {error}",
            expected=_usage(parsed.name),
            fix=f"--loss {parsed.name}",
        ) from error


def _usage(name: str) -> str:
    """A loss with the arguments it takes, and their defaults."""
    taken = inspect.signature(LOSSES[name]).parameters.values()
    arguments = "&".join(f"{p.name}={'INTEGER' if p.default is None else p.default}" for p in taken)
    return f"{name}?{arguments}" if arguments else f"{name}, which takes none"


__all__ = ["LOSSES", "CrossEntropy", "Facts", "Loss", "build_loss", "position_counts"]
