"""Taking over the weight gradient: the calls in which weights meet the examples, seen as they run.

Inside ``Interception`` such a call gets its weights detached, so autograd computes no weight
gradient for it, and a hook on its output hands over the gradient that arrives there in the backward
pass. Working at functionals sees what hooks on modules miss: functional calls, parameters that
belong to no leaf module, tied weights, tensors computed from parameters. A parameter used in any
other way stays attached: autograd gives it a gradient, which the engine notices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from analyze.gradients.model.computing import TELLING
from analyze.gradients.plan import CallPlan
from analyze.gradients.rewrites import rewritten, takes_packed_sequences
from analyze.gradients.rules import ALONE, MASKED, RULES, Call
from analyze.gradients.rules.weights import Weight, leaves

OnGradient = Callable[[Tensor], Tensor | None]
OnCall = Callable[[int, Call], OnGradient | None]

_OF_ANY_FUNCTION = {rule.name: rule for rule in (ALONE, MASKED)}


class ForwardChangedError(Exception):
    """A forward pass made other calls than the plan says: control flow that depends on the data.

    ``parameters`` are those of the calls that differ, where all others are as planned.
    """

    def __init__(self, message: str, parameters: Collection[str] = ()) -> None:
        super().__init__(message)
        self.parameters = set(parameters)
        self.batch: tuple[Any, Tensor] | None = None  # inputs and targets, once they are known


class CountedCalls(TorchFunctionMode):
    """Sees every call of a forward pass, and numbers those that a gradient goes through.

    Other calls (sizes, masks, look-up tables that are made once) may differ between passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.packed = False  # inside a call over sequences of different length

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in TELLING or _in_a_transform():
            return func(*args, **kwargs)
        if not (torch.is_grad_enabled() and _carries_gradient(args, kwargs)):
            return self.other(func, args, kwargs)
        equivalent = rewritten(func, args)
        if equivalent is not None:
            before, self.packed = self.packed, self.packed or takes_packed_sequences(func, args)
            try:
                with self:
                    return equivalent(*args, **kwargs)
            finally:
                self.packed = before
        self.count += 1
        return self.counted(self.count - 1, func, args, kwargs)

    def counted(self, number: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that a gradient goes through."""
        return func(*args, **kwargs)

    def other(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that no gradient goes through."""
        return func(*args, **kwargs)


class Interception(CountedCalls):
    """Takes over the planned calls of a forward pass.

    ``names`` maps ``id(parameter)`` to its name. ``on_call`` gets each planned call with its number
    and returns a function of the gradient at the output, or None where nothing is wanted of the
    call. That function returns the gradient of a fused argument that needs one. Arguments are fused
    unless a backward pass comes before the last. The model is on ``device``.
    """

    def __init__(
        self,
        calls: Mapping[int, CallPlan],
        names: Mapping[int, str],
        on_call: OnCall,
        device: torch.device,
        fusing: bool = True,
    ) -> None:
        super().__init__()
        self._fusing = fusing
        self._calls = calls
        self._names = names
        self._on_call = on_call
        self.seen = 0
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    def counted(self, number: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a planned call with its weights detached and its output watched."""
        planned = self._calls.get(number)
        if planned is None:
            return func(*args, **kwargs)
        self.seen += 1
        call = _planned_call(planned, func, args, kwargs, self._names)
        on_gradient = self._on_call(number, call)
        if on_gradient is None:
            return func(*args, **kwargs)
        fused = call.rule.fused
        if fused is not None and self._fusing and call.arguments[fused].requires_grad:
            call.wanted |= {fused}
            return _Fused.apply(call.arguments[fused], call.run, on_gradient)
        output = self._run(call)
        if output.requires_grad:
            output.register_hook(on_gradient)
        return output

    def _run(self, call: Call) -> Tensor:
        """The call's output, made to require a gradient where none comes with the data."""
        weights = {id(w.tensor) for w in call.weights.values()}
        if _carries_gradient(call.args, call.kwargs, besides=weights):
            return call.run()
        if call.mutates:
            return call.run(self.anchor)
        return _Anchored.apply(self.anchor, call.run)


class _Fused(torch.autograd.Function):
    """A call whose rule gives the gradient of its input together with those of its weights."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, run: Callable[[], Tensor], on_gradient: OnGradient) -> Any:
        ctx.on_gradient = on_gradient
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.on_gradient(grads[0]), None, None


class _Anchored(torch.autograd.Function):
    """A call whose input needs no gradient: its output must, or no gradient would arrive there.

    The call runs inside ``forward``: an output that merely passed through would count as a view,
    and an in-place ReLU after it would be an error.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, run: Callable[[], Tensor]) -> Tensor:
        output = run()
        return output.clone() if output._is_view() else output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        return None, None


def _in_a_transform() -> bool:
    """Whether ``torch.vmap`` or ``torch.func.grad`` is running a part of the model.

    Its tensors have another shape than they show, and no memory. Its result is taken to depend on
    the examples, like that of a custom autograd function.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None


def _planned_call(
    planned: CallPlan,
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: Mapping[int, str],
) -> Call:
    """The call as its plan says; ``ForwardChangedError`` if it is another one."""
    if func.__name__ != planned.function:
        raise ForwardChangedError(f"{func.__name__} instead of {planned.function}")
    rule = _OF_ANY_FUNCTION.get(planned.rule) or RULES[func]
    arguments = rule.bind(args, kwargs)
    weights = {}
    for argument, expected in planned.weights.items():
        tensor = arguments.get(argument)
        actual = parameters_of(tensor, names) if isinstance(tensor, Tensor) else {}
        if set(actual) != set(expected):
            raise ForwardChangedError(
                f"{func.__name__} of {sorted(actual)} instead of {sorted(expected)}"
            )
        assert isinstance(tensor, Tensor)
        weights[argument] = Weight(tensor, actual)
    return Call(
        rule, func, args, kwargs, arguments, weights, dict(planned.axes), planned.output,
        traced=planned.traced,
    )  # fmt: skip


def parameters_of(tensor: Tensor, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The parameters a tensor was computed from, by name."""
    if id(tensor) in names:
        return {names[id(tensor)]: tensor}
    return {names[id(leaf)]: leaf for leaf in leaves(tensor) if id(leaf) in names}


def _carries_gradient(
    args: Any,
    kwargs: Mapping[str, Any],
    besides: Collection[int] = (),
) -> bool:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            if value.requires_grad and id(value) not in besides:
                return True
        elif type(value) in (list, tuple) and _carries_gradient(value, {}, besides):
            return True
    return False
