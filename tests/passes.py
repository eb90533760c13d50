"""Counts the forward and backward passes of models, with who asked for them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from analyze.gradients.model.replica import Replica

# Files that pass a request on.
BETWEEN = ("replica", "settling", "foreign", "recording", "output", "reference", "batch")
OF_A_LOSS = ("at_the_output", "user")  # whose backward passes are no model's


class Pass(NamedTuple):
    """A pass of a model, or of several like it."""

    way: str  # "forward" or "backward"
    examples: int
    precision: str
    asked: str  # file and function that wanted it


@contextmanager
def counted() -> Iterator[Counter[Pass]]:
    """Counts the passes in the block, in their order.

    A backward pass counts as one over the examples of the forward pass before it.
    """
    passes: Counter[Pass] = Counter()
    last: list[Pass] = []
    forward, backward = Replica._pass, torch.autograd.grad

    def forwards(replica: Replica, inputs: Any, model: Any, device: Any, dtype: Any) -> Any:
        last[:] = [Pass("forward", len(inputs), str(dtype).removeprefix("torch."), _asked())]
        passes[last[0]] += 1
        return forward(replica, inputs, model, device, dtype)

    def backwards(*args: Any, **kwargs: Any) -> Any:
        asked = _asked()
        if not asked.startswith(OF_A_LOSS):
            passes[last[0]._replace(way="backward", asked=asked)] += 1
        return backward(*args, **kwargs)

    with (
        mock.patch.object(Replica, "_pass", forwards),
        mock.patch.object(torch.autograd, "grad", backwards),
    ):
        yield passes


def _asked() -> str:
    """The innermost function of the engine that did more than pass the request on."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file, code = Path(frame.f_code.co_filename), frame.f_code
        if "gradients" in file.parts and file.stem not in BETWEEN and code.co_name[0] != "<":
            return f"{file.stem}.{code.co_name}"
        frame = frame.f_back
    return ""


def table(passes: Counter[Pass]) -> list[str]:
    """A line for each kind of pass: how often, examples, precision, and who asked."""
    return [
        f"{count} {p.way} of {p.examples} in {p.precision}: {p.asked}"
        for p, count in passes.items()
    ]
