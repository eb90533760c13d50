"""A small model to be used in odd ways, and a twin that is never copied to compare it with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import analyze
from tests import oracle
from tests.agreement import assert_agrees

EXAMPLES = 6
SETTINGS = {
    "precision": "float64", "folds": 1, "batch_norm": "saved", "device": "cpu", "batch_size": 4,
}  # fmt: skip


class Small(nn.Module):
    """Two layers, and a parameter between them that the models below use in odd ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.rand(5) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().double()


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(EXAMPLES, 4, generator=generator).double(), torch.arange(EXAMPLES) % 3


def measured(model: nn.Module, **settings):
    return analyze.measure(model, analyze.ProbeSet(*examples()), **(SETTINGS | settings))


def assert_measures(build, alike=None) -> None:
    """The model's numbers are the oracle's of a twin, or of one that computes the same plainly."""
    tree = measured(built(build))
    twin = built(alike or build)
    assert_agrees(tree, oracle.statistics(twin, *examples(), [0] * EXAMPLES, 1, copied=False))
