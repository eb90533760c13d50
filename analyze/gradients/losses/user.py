"""A user's own loss: ``FILE.py:FUNCTION`` with ``FUNCTION(output, target) -> [N]``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.losses.loss import Loss
from analyze.user_code import told


@dataclass(frozen=True)
class UserLoss(Loss):
    """One loss per example from a function; its seed comes from autograd.

    Args:
        function: ``function(output, target, **arguments) -> [N]``.
        arguments: From the spec.
        spec: As it was written, for messages.
    """

    function: Callable[..., Tensor]
    arguments: dict[str, Any]
    spec: str

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        try:
            losses = self.function(output, target, **self.arguments)
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                "the loss function fails",
                found=f"{self.spec}: {told(error)}; output {list(output.shape)}, "
                f"target {list(target.shape)}",
                expected="FUNCTION(output, target) -> [N]",
                fix="mend the function, or freeze probes with targets that it takes",
            ) from error
        if not isinstance(losses, Tensor) or losses.shape != (len(output),):
            given = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(
                "the loss function does not give one loss per example",
                found=f"{self.spec} returned {given} for {len(output)} examples",
                expected=f"a tensor [{len(output)}], not reduced over the batch",
                fix='compute with reduction="none" and sum over the axes of one example',
            )
        return losses

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_(True)
            total = self.per_example(leaf, target).sum()
        return torch.autograd.grad(total, leaf)[0]

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.full((len(output),), float("nan"))

    def check(self, output: Tensor, target: Tensor) -> None:
        """Nothing is known of what the function accepts."""
