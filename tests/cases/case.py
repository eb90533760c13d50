"""A case: a small model, its inputs, and the methods that the plan must choose for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Inputs = Tensor | dict[str, Tensor]
CLASSES = 4
EXAMPLES = 7


@dataclass(frozen=True)
class Case:
    """A model and its inputs; ``methods`` maps some parameters to the method they must have."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    methods: dict[str, str]
    positions: int = 0  # of a sequence output; 0 for one prediction per example

    @property
    def rules(self) -> set[str]:
        """Names of the rules in its methods."""
        return {rule for method in self.methods.values() for rule in rules_of(method)}


def rules_of(method: str) -> list[str]:
    """Names of the rules that a method such as ``embedding + linear, derived`` consists of."""
    return method.removesuffix(", derived").removesuffix(", rows traced").split(" + ")


class Flat(nn.Module):
    """Some layers, flattened, with a linear head of the right size."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


def images(channels: int, *size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(EXAMPLES, channels, *size)


def tokens(vocabulary: int, length: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(vocabulary, (EXAMPLES, length))


def settled(case: Case) -> tuple[nn.Module, Inputs, Tensor]:
    """The case's model, inputs and targets, from a fixed seed.

    Zero-initialised parameters are redrawn and batch norm's statistics set by one batch: a fresh
    model would prove nothing.
    """
    torch.manual_seed(len(case.name))
    model, inputs = case.model(), case.inputs()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
    shape = (EXAMPLES, case.positions) if case.positions else (EXAMPLES,)
    return model.eval(), inputs, torch.randint(CLASSES, shape)
