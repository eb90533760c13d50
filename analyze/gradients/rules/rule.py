"""What a rule is: functionals, the arguments that may be weights, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.forms import Form
from analyze.gradients.model.computing import mutates
from analyze.gradients.rules.weights import Weight

Function = Callable[..., Any]
Forms = dict[str, Form]

KEPT = "kept"  # the argument that holds what a call returned besides its output


@dataclass
class Call:
    """One call of a functional in which weights meet the examples; ``args`` are the model's.

    ``wanted`` names the weights whose gradients are asked for, and ``rule.fused`` where the rule is
    to give that gradient, too. ``traced`` says that rows belong to other examples in each batch.
    """

    rule: Rule
    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arguments: dict[str, Any]  # by the rule's names, the weights among them
    weights: dict[str, Weight]  # by argument
    axes: dict[str, ExampleAxis]  # by argument, for those that hold examples
    output: ExampleAxis
    wanted: frozenset[str] = frozenset()
    traced: bool = False
    versions: dict[str, int] = field(default_factory=dict)

    def run(self, anchor: Tensor | None = None) -> Any:
        """Call the functional with its weights detached, and keep what the rule will read.

        Where it writes into a tensor without a gradient, none would arrive there: ``anchor``, a
        zero that requires one, is then added to the weights.
        """
        detached = {k: w.tensor.detach() for k, w in self.weights.items()}
        if anchor is not None:
            detached = {k: w + anchor.to(w) for k, w in detached.items()}
        args, kwargs = self.rule.exchanged(detached, self.args, self.kwargs)
        arguments = {**self.arguments, **detached}
        if self.mutates and isinstance(target := self.args[0], Tensor):
            # What stood there before: torch keeps it only for gradients it computes itself.
            before = target.detach().clone()
            arguments = {k: before if v is target else v for k, v in arguments.items()}
        for name, value in arguments.items():
            if isinstance(value, Tensor) and name not in detached:
                arguments[name] = value.detach()  # a later call in place may give it a graph
        self.arguments = arguments
        reads = self.axes if self.rule.reads is None else self.rule.reads
        self.versions = {k: v._version for k in reads if isinstance(v := arguments.get(k), Tensor)}
        if self.rule.keeping is not None:
            output, arguments[KEPT] = self.rule.keeping(*args, **kwargs)
            return output
        if self.rule.run is not None:
            return self.rule.run(*args, **kwargs)
        output = self.function(*args, **kwargs)
        return self.args[0] if self.mutates and output is None else output

    @property
    def mutates(self) -> bool:
        """Whether the function writes its result into its first argument."""
        return mutates(self.function)

    def release(self) -> None:
        """Let go of the data: the gradients are known, and the backward pass is not over yet."""
        self.args, self.kwargs, self.arguments = (), {}, {}

    def changed_in_place(self) -> bool:
        """Whether something that the rule reads was written over since the call."""
        return any(self.arguments[k]._version != v for k, v in self.versions.items())


@dataclass(frozen=True)
class Rule:
    """How some functionals use their weights.

    Args:
        functions: The functionals that this is the rule of.
        arguments: Names of the arguments in positional order, with defaults where they have any
            (built-in functions have no signature to read).
        weights: The arguments that may be weights.
        data: The arguments that may hold examples.
        forms: ``forms(call, dy) -> {argument: Form}`` for the wanted weights, where ``dy`` is the
            gradient of the summed loss at the output.
        accepts: Whether the rule is exact for these arguments and axes.
        reads: The arguments whose values ``forms`` needs; None for all that hold examples.
        run: Called in place of a functional that leaves traces on its weight.
        keeping: Called in its place where ``forms`` can use more than the arguments; returns the
            output and the argument ``KEPT``.
        fused: The argument whose gradient ``forms`` gives, too, where it is wanted: torch has one
            pass for it and the weights'. Autograd then makes none itself.
    """

    name: str
    functions: tuple[Function, ...]
    arguments: Mapping[str, Any]
    weights: tuple[str, ...]
    data: tuple[str, ...]
    forms: Callable[[Call, Tensor], Forms]
    accepts: Callable[[Call], bool]
    reads: tuple[str, ...] | None = ("input",)
    run: Function | None = None
    keeping: Function | None = None
    fused: str | None = None

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults filled in."""
        return {**self.arguments, **dict(zip(self.arguments, args, strict=False)), **kwargs}

    def exchanged(
        self, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """``args`` and ``kwargs`` with some arguments, by name, exchanged for others."""
        positional, named = list(args), dict(kwargs)
        for name, tensor in tensors.items():
            place = self._places[name]
            if place < len(args):
                positional[place] = tensor
            else:
                named[name] = tensor
        return positional, named

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.arguments)}


def layer(
    name: str,
    function: Function,
    arguments: Mapping[str, Any],
    forms: Callable[[dict[str, Any], Tensor, ExampleAxis, frozenset[str]], Forms],
    accepts: Callable[[dict[str, Any], ExampleAxis], bool],
    *,
    weights: tuple[str, ...] = ("weight", "bias"),
    run: Function | None = None,
    keeping: Function | None = None,
    fused: str | None = None,
) -> Rule:
    """The rule of a layer: one ``input`` that holds the examples where the output does."""

    def of_call(call: Call, dy: Tensor) -> Forms:
        return forms(call.arguments, dy, call.axes["input"], call.wanted)

    def accepts_call(call: Call) -> bool:
        axis = call.axes.get("input")
        return axis == call.output and axis is not None and accepts(call.arguments, axis)

    return Rule(
        name, (function,), arguments, weights, ("input",), of_call, accepts_call, ("input",), run,
        keeping, fused,
    )  # fmt: skip


def made(wanted: Collection[str], **makers: Callable[[], Form]) -> Forms:
    """The forms of the weights that are wanted, each by its maker."""
    return {name: make() for name, make in makers.items() if name in wanted}


def broadcast_sum(values: Tensor, shape: torch.Size) -> Tensor:
    """``[N, *broadcast]`` summed to ``[N, *shape]``: the gradient of broadcasting ``shape``."""
    missing = values.dim() - 1 - len(shape)
    if missing > 0:
        values = values.flatten(1, missing).sum(1)
    widened = [k for k, size in enumerate(shape, start=1) if size == 1 and values.shape[k] != 1]
    return values.sum(widened, keepdim=True) if widened else values
