"""Any other call in which a weight meets the examples: autograd of that one call, per example.

Two ways, both exact where they run. *Alone*: the call again for each example by itself, under
``vmap``. *Masked*: the call's backward pass for the whole batch, once for each example, with the
gradient at all other examples' entries set to zero; this needs no more than to know where the
examples lie in the output, and costs a factor N in that one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.forms import Form
from analyze.gradients.rules.rule import Call, Forms, Rule

_SEPARATOR = "."


@dataclass
class OfOneCall(Form):
    """``g[n] = vjp of one call at dy[n]`` with respect to one of its weights."""

    call: Call
    argument: str
    dy: Tensor
    alone: bool

    def __post_init__(self) -> None:
        self.count = self.call.output.count(self.dy)
        self.shape = self.call.weights[self.argument].tensor.shape
        self.device = self.dy.device

    def explicit(self, start: int, stop: int) -> Tensor:
        weight = self.call.arguments[self.argument]
        with torch.enable_grad():
            if self.alone:
                return self._alone(weight, start, stop).detach()
            pull = torch.func.vjp(self._of_weight({}), weight)[1]
            deltas = self.call.output.masked(self.dy, start, stop)
            return torch.func.vmap(lambda delta: pull(delta)[0])(deltas).detach()

    def _alone(self, weight: Tensor, start: int, stop: int) -> Tensor:
        data = {
            name: axis.single(self.call.arguments[name])[start:stop]
            for name, axis in self.call.axes.items()
        }

        def gradient(example: dict[str, Tensor], delta: Tensor) -> Tensor:
            return torch.func.vjp(self._of_weight(example), weight)[1](delta)[0]

        return torch.func.vmap(gradient)(data, self.call.output.single(self.dy)[start:stop])

    def _of_weight(self, exchanged: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """The call as a function of the weight, some other arguments exchanged."""
        call = self.call

        def function(weight: Tensor) -> Tensor:
            arguments = {**call.arguments, **exchanged, self.argument: weight}
            args, kwargs = unflattened(arguments, call.args, call.kwargs)
            if not call.mutates:
                return call.function(*args, **kwargs)
            target = args[0].clone()
            call.function(target, *args[1:], **kwargs)
            return target

        return function

    def _bytes_per_example(self, algorithm: str) -> int:
        dearest = self.shape.numel() if self.alone else self.shape.numel() + self.dy.numel()
        return 4 * dearest


def flattened(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by their place: ``0``, ``1.0`` for the first of a list, ``dim`` for a keyword."""
    by_place = {**{str(k): value for k, value in enumerate(args)}, **kwargs}
    return {place: v for name, value in by_place.items() for place, v in _places(name, value)}


def _places(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Places and values in a list or tuple, however deep; any other value has one place."""
    if type(value) in (list, tuple):
        for k, item in enumerate(value):
            yield from _places(f"{path}{_SEPARATOR}{k}", item)
    else:
        yield path, value


def unflattened(
    arguments: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Undo ``flattened``; the originals tell the structure."""
    return (
        tuple(_built(arguments, str(k), value) for k, value in enumerate(args)),
        {name: _built(arguments, name, value) for name, value in kwargs.items()},
    )


def _built(arguments: Mapping[str, Any], path: str, value: Any) -> Any:
    """The argument at a place, in the structure of what stood there."""
    if type(value) in (list, tuple):
        items = (_built(arguments, f"{path}{_SEPARATOR}{k}", v) for k, v in enumerate(value))
        return type(value)(items)
    return arguments[path]


class _AnyCall(Rule):
    """The rule for functionals that have none: its argument names are places."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return flattened(args, kwargs)

    def exchanged(
        self, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return unflattened({**flattened(args, kwargs), **tensors}, args, kwargs)


def _forms(alone: bool, call: Call, dy: Tensor) -> Forms:
    kept = replace(call)  # other uses of the weight may come later, when the call is let go
    return {argument: OfOneCall(kept, argument, dy, alone) for argument in call.wanted}


def _rule(name: str, alone: bool) -> Rule:
    return _AnyCall(
        name=name,
        functions=(),
        arguments={},
        weights=(),
        data=(),
        forms=lambda call, dy: _forms(alone, call, dy),
        accepts=lambda call: True,
        reads=None,
    )


ALONE = _rule("autograd of one call", alone=True)
MASKED = _rule("autograd of one call, masked", alone=False)
