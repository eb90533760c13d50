"""Losses of single examples, by spec: ``cross_entropy?label_smoothing=0.1``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable

from analyze.errors import InputError
from analyze.gradients.losses.cross_entropy import CrossEntropy
from analyze.gradients.losses.elementwise import BinaryCrossEntropy, SquaredError
from analyze.gradients.losses.from_torch import MODULE, named_loss, spec_of
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
    """The loss a spec names: one of ``LOSSES``, of torch's, or a function in a Python file.

    Raises:
        InputError: no such loss, or an argument it does not take.
    """
    parsed = Spec.parse(spec)
    source, _, name = parsed.name.rpartition(":")
    if source == MODULE:
        of_torch = named_loss(name, parsed.arguments, spec)
        if of_torch is not None:
            return of_torch
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


def spec_in_python(loss: object) -> str:
    """The spec of a loss that Python gives: a spec, or a loss of torch with its options.

    Raises:
        InputError: neither; or a loss of torch that has no meaning for one example.
    """
    spec = loss if isinstance(loss, str) else spec_of(loss)
    if spec is None:
        raise InputError(
            "the loss given is something else",
            found=f"a loss of type {type(loss).__name__}: {str(loss)[:80]}",
            expected='a spec such as "cross_entropy", or a loss of torch such as '
            "torch.nn.CrossEntropyLoss(label_smoothing=0.1)",
            fix='loss="FILE.py:FUNCTION" with FUNCTION(output, target) -> [N] in a file',
        )
    return spec


def loss_in_python(loss: object) -> tuple[str, Loss]:
    """A loss that Python gives, with its name: as ``spec_in_python``, or a function of one's own.

    Raises:
        InputError: as ``spec_in_python`` and ``build_loss``.
    """
    written = (str, type, types.BuiltinFunctionType)
    if callable(loss) and not isinstance(loss, written) and spec_of(loss) is None:
        name = f"{loss.__module__}:{getattr(loss, '__qualname__', type(loss).__qualname__)}"
        return name, UserLoss(loss, {}, name)
    spec = spec_in_python(loss)
    return spec, build_loss(spec)


def _usage(name: str) -> str:
    """A loss with the arguments it takes, and their defaults."""
    taken = inspect.signature(LOSSES[name]).parameters.values()
    shown = {p.name: "INTEGER" if p.default is None else p.default for p in taken}
    shown |= {"weight": "NUMBER,NUMBER,..."} if "weight" in shown else {}
    arguments = "&".join(f"{key}={value}" for key, value in shown.items())
    return f"{name}?{arguments}" if arguments else f"{name}, which takes none"


__all__ = [
    "LOSSES", "CrossEntropy", "Facts", "Loss", "build_loss", "loss_in_python", "position_counts",
    "spec_in_python",
]  # fmt: skip
