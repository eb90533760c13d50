"""What a model's passes need, found out by a few of them before any is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from analyze.errors import InputError

Run = Callable[[], Tensor]
SAME = 1e-6  # of an output's norm: rounding of float32


class Tried(NamedTuple):
    """What came of a pass: its output, or why there is none."""

    output: Tensor | None
    error: Exception | None = None


def tried(run: Run, gradients: bool) -> Tried:
    """A pass, with gradients on or off."""
    try:
        with torch.set_grad_enabled(gradients):
            return Tried(run())
    except Exception as error:  # whatever a model's forward raises
        return Tried(None, error)


def unable_to_have_gradients(run: Run, frozen: Mapping[str, nn.Parameter]) -> list[str]:
    """The frozen parameters that must stay so for a pass to work: all others count.

    Forward passes write to such a one in place, or read it by ``numpy()``.

    Args:
        run: A pass with gradients on.
        frozen: Those that the user's model has with ``requires_grad=False``; the ones found are so
            afterwards, and no others.
    """
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    kept = []
    if frozen and tried(run, gradients=True).error is None:
        for name, parameter in frozen.items():
            parameter.requires_grad_(True)
            if tried(run, gradients=True).error is not None:
                parameter.requires_grad_(False)
                kept.append(name)
    for name, parameter in frozen.items():
        parameter.requires_grad_(name not in kept)
    return kept


def needs_gradients(run: Run, with_gradients: Tensor) -> bool:
    """Whether a model gives its output with gradients on only, as one that takes forces does."""
    without = tried(run, gradients=False).output
    if without is None or without.shape != with_gradients.shape:
        return True
    difference = float((without - with_gradients).detach().norm())
    return difference > SAME * float(with_gradients.detach().norm())


def without_gradients(error: Exception) -> InputError:
    """For a model that runs only where no gradient is wanted."""
    return InputError(
        "the model has no backward pass",
        found=f"with gradients on, its forward pass fails: {_first_line(error)}",
        expected="a forward pass that works as in training, with parameters that require gradients",
        fix="take numpy(), changes of parameters in place and inference mode out of forward",
    )


def output_without_graph(model: nn.Module) -> InputError:
    """For a model whose output autograd cannot follow back to any parameter."""
    return InputError(
        "the model's output has no gradient",
        found=f"{type(model).__name__}.forward, in eval mode, gives an output that requires none, "
        "though its parameters do",
        expected="an output that loss.backward() takes back to the parameters",
        fix="take torch.no_grad(), inference_mode and detach() out of forward; torch.autograd.grad "
        "inside it needs create_graph=True in eval mode as well",
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
