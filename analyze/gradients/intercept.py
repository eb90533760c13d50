"""Taking over the weight gradient: every call that uses a parameter, seen in the forward pass.

Inside ``Interception`` a functional that a rule knows gets its parameters detached, so autograd
computes no weight gradient for it, and a hook on its output hands over the gradient that arrives
there in the backward pass. Working at functionals sees what hooks on modules miss: functional
calls, parameters that belong to no leaf module, tied weights. A parameter used in any other way
stays attached: autograd gives it a gradient, which the engine notices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from analyze.gradients.rules import RULES, Call, Rule

OnCall = Callable[[Call], Callable[[Tensor], None] | None]


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


class Interception(TorchFunctionMode):
    """Sees the calls of a forward pass that use one of ``names``, ``id(parameter)`` to its name.

    Args:
        names: The parameters to take over.
        on_call: Told of each call; returns what to do with the gradient at its output, or None.
    """

    def __init__(self, names: dict[int, str], on_call: OnCall) -> None:
        super().__init__()
        self._names = names
        self._on_call = on_call
        self.anchor = torch.zeros((), requires_grad=True)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is not None:
            return self._run(rule, args, kwargs)
        if _is_python_functional(func) and self._uses_parameters(args, kwargs):
            with self:
                return _opened(func)(*args, **kwargs)
        return func(*args, **kwargs)

    def _run(self, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Call the functional, its parameters detached and its output watched."""
        arguments = rule.bind(args, kwargs)
        found = {a: self._names.get(id(arguments[a])) for a in rule.weights}
        parameters = {a: name for a, name in found.items() if name is not None}
        if not parameters:
            return rule.function(*args, **kwargs)
        data = arguments["input"]
        arguments |= {a: arguments[a].detach() for a in parameters}
        carries_gradient = any(
            isinstance(a, Tensor) and a.requires_grad for a in arguments.values()
        )
        if carries_gradient or not torch.is_grad_enabled():
            output = rule.function(**arguments)
        else:
            output = _Anchored.apply(self.anchor, lambda: rule.function(**arguments))
        arguments["input"] = data.detach()
        call = Call(rule, arguments, parameters, output.shape, data._version)
        on_gradient = self._on_call(call)
        if on_gradient is not None and output.requires_grad:
            output.register_hook(on_gradient)
        return output

    def _uses_parameters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return any(id(value) in self._names for value in (*args, *kwargs.values()))


def _is_python_functional(func: Any) -> bool:
    return isinstance(func, FunctionType) and func.__module__ == "torch.nn.functional"


@cache
def _opened(func: FunctionType) -> FunctionType:
    """A functional written in Python, made to call its parts where the mode sees them.

    Such a function first offers itself to the mode whenever one is active; called again under the
    mode it would offer itself for ever (``multi_head_attention_forward``). A copy of it whose
    globals say that nothing overrides torch functions goes straight to its body.
    """

    def nothing_overrides(*tensors: Any) -> bool:
        return False

    hidden = {name: nothing_overrides for name in func.__globals__ if "has_torch_function" in name}
    opened = FunctionType(
        func.__code__,
        {**func.__globals__, **hidden},
        func.__name__,
        func.__defaults__,
        func.__closure__,
    )
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened
