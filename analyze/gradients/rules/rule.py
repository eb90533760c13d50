"""What a rule is: a functional, the arguments it may use as parameters, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.forms import Form
from analyze.gradients.layout import ExampleLayout


@dataclass
class Call:
    """One call of a functional in a forward pass.

    Args:
        rule: The rule of the functional.
        arguments: All arguments by name, parameters detached.
        parameters: Argument name to parameter name, for the arguments that are parameters.
        output_shape: Shape of what the call returned.
        version: Of the data argument, to notice a change in place before the backward pass.
    """

    rule: Rule
    arguments: dict[str, Any]
    parameters: dict[str, str]
    output_shape: torch.Size
    version: int

    @property
    def data(self) -> Tensor:
        """The argument that carries the examples."""
        return self.arguments["input"]

    @property
    def signature(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What must be the same call in every forward pass: the functional and its parameters."""
        return self.rule.name, tuple(sorted(self.parameters.items()))


@dataclass(frozen=True)
class Rule:
    """How one functional uses its parameters.

    Args:
        function: What the forward pass calls.
        name: As the plan shows it.
        arguments: Names of the function's arguments in positional order, with defaults where it
            has any (built-in functions have no signature to read).
        weights: The arguments that may be parameters.
        forms: ``forms(arguments, dy, layout, wanted) -> {argument: Form}`` for the ``wanted``
            arguments, where ``dy`` is the gradient of the summed loss at the output.
        accepts: Whether the rule is exact for these arguments and this layout of the examples in
            ``input``; where it is not, its parameters go to the fallback.
    """

    function: Callable[..., Any]
    name: str
    arguments: Mapping[str, Any]
    weights: tuple[str, ...]
    forms: Callable[[dict[str, Any], Tensor, ExampleLayout, set[str]], dict[str, Form]]
    accepts: Callable[[dict[str, Any], ExampleLayout], bool]

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults filled in."""
        return {**self.arguments, **dict(zip(self.arguments, args, strict=False)), **kwargs}
