"""A user's own loss: ``FILE.py:FUNCTION`` with ``FUNCTION(output, target) -> [N]``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from analyze.errors import InputError
from analyze.gradients.device.devices import HOST, output_entries
from analyze.gradients.losses.loss import NO_FACTS, Facts, Loss
from analyze.specs.user_code import with_place

MIXED = 1e-4  # relative difference of an example's losses beyond what rounding explains
OVER_ONE = "take means, maxima and weights over the axes of one example, not over the batch"
SHAPES = "give output and target one shape in the function: torch makes [N, N] of [N, 1] and [N]"


@dataclass(frozen=True)
class UserLoss(Loss):
    """One loss per example from a function; its seed comes from autograd.

    The function gets targets that are floats in the output's precision, as torch's own losses of
    two float tensors want them; so do its constants, where torch wants it. It gets copies: it may
    write into them, and is called several times.
    """

    function: Callable[..., Tensor]  # function(output, target, **arguments) -> [N]
    arguments: dict[str, Any]
    spec: str  # as it was written, for messages

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            target = target.to(output.dtype.to_real())
        try:
            with _OnePrecision():
                losses = self.function(output.clone(), target.clone(), **self.arguments)
        except Exception as error:  # whatever the user's code raises
            raise self._fails(error, output, target) from error
        if not isinstance(losses, Tensor) or losses.shape != (len(output),):
            kind = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(
                "the loss function does not give one loss per example",
                found=f"{self.spec} returned {kind} for {len(output)} examples",
                expected=f"a tensor [{len(output)}], not reduced over the batch",
                fix='compute with reduction="none" and sum over the axes of one example',
            )
        return losses

    def seed(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_(True)
            total = self.per_example(leaf, target).sum()
        if not total.requires_grad:
            raise InputError(
                "the loss function has no gradient",
                found=f"{self.spec} returned a {total.dtype} tensor that autograd cannot follow "
                "back to the output",
                expected="a loss computed from the output by differentiable operations",
                fix="mend the function: no detach(), item(), argmax or comparison on the way",
            )
        try:
            return torch.autograd.grad(total, leaf)[0]
        except Exception as error:  # whatever the user's code or its backward pass raises
            raise self._fails(error, output, target) from error

    def losses_and_seed(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and seed, with a look at whether losses change when other examples are left out.

        Every two examples are parted once: by the digits of their places as binary numbers.

        Raises:
            InputError: a loss changes.

        Cost: the losses of a batch of N once more for each of its ``log2 N`` digits; twice in all
            where the output is large.
        """
        losses = self.per_example(output, target)
        digits = max(1, (len(output) - 1).bit_length())
        if output.numel() > output_entries(HOST):
            digits = min(digits, 2)
        places = torch.arange(len(output), device=output.device)
        for digit in range(digits if len(output) > 1 else 0):
            for rows in ((places >> digit) % 2 == 0, (places >> digit) % 2 == 1):
                apart = self.per_example(output[rows], target[rows])
                off = (apart - losses[rows]).abs() > MIXED * losses[rows].abs().clamp_min(1.0)
                if bool(off.any()):
                    raise self._mixes(losses[rows][off][0], apart[off][0])
        return losses, self.seed(output, target)

    def _mixes(self, together: Tensor, apart: Tensor) -> InputError:
        return InputError(
            "the loss mixes the examples of a batch",
            found=f"{self.spec}: {float(together):.6g} for an example beside all others of a "
            f"batch, {float(apart):.6g} beside half of them",
            expected="a loss of each example on its own",
            fix=OVER_ONE,
        )

    def check(self, output: Tensor, target: Tensor, facts: Facts = NO_FACTS) -> list[str]:
        """Refuse a loss that another example's target changes: by broadcasting, mostly.

        Of the function nothing else is known. That it does not look at others' outputs is for
        those to show who have several.
        """
        beside = (target != target[:1]).reshape(len(target), -1).any(1).nonzero()[:1, 0]
        if len(beside) == 0:  # all targets are the same
            return []
        pair = output[torch.arange(2, device=output.device) % len(output)].detach()
        with torch.no_grad():
            same, again, other = (
                float(self.per_example(pair, target[[0, row]].to(output.device))[0])
                for row in (0, 0, int(beside))
            )
        if abs(same - again) > MIXED * max(abs(same), abs(again)):
            raise InputError(
                "the loss function is not deterministic, so gradients have no fixed value",
                found=f"{same:.6g}, then {again:.6g} for the same output and target",
                expected="the same loss each time",
                fix="take random numbers and counters out of the function",
            )
        if abs(same - other) > MIXED * max(abs(same), abs(other)):
            shapes = f"output {list(pair.shape)}, target {[2, *target.shape[1:]]}"
            raise InputError(
                "the loss mixes the examples of a batch",
                found=f"{same:.6g} for an example, {other:.6g} when only the target of the other "
                f"one is changed; {shapes}",
                expected="a loss of each example on its own",
                fix=SHAPES if pair[0].numel() == target[0].numel() else OVER_ONE,
            )
        return []

    def _fails(self, error: Exception, output: Tensor, target: Tensor) -> InputError:
        return InputError(
            "the loss function fails",
            found=f"{self.spec}: {with_place(error)}; output {list(output.shape)} {output.dtype}, "
            f"target {list(target.shape)} {target.dtype}",
            expected="FUNCTION(output, target) -> [N]",
            fix="mend the function, or freeze probes with targets that it takes",
        )


class _OnePrecision(TorchFunctionMode):
    """Repeats a call that torch refuses for its mixed precisions with all of it in the widest.

    Constants of a user's loss, such as class weights, are float32 as they are written; in the proof
    the output is float64. What is written to in place stays as it is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            dtypes = {t.dtype for t in tree_leaves((args, kwargs)) if _is_float(t)}
            if len(dtypes) < 2 or getattr(func, "__name__", "").endswith("_"):
                raise
            widest = max(dtypes, key=lambda dtype: torch.finfo(dtype).bits)
            return func(
                *tree_map_only(Tensor, _as(widest), args),
                **tree_map_only(Tensor, _as(widest), kwargs),
            )


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _as(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor
