"""Several inputs, outputs with a structure, custom functions, caches, recomputed activations."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.cases.case import CLASSES, EXAMPLES, Case, images


class Caching(nn.Module):
    """Keeps a tensor made from a parameter between eval calls, as timm's LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 5))
        self.bias = nn.Parameter(torch.randn(CLASSES))
        self.kept: Tensor | None = None
        self.by_device: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None or self.training:
            self.kept = self.weight * 1.5
        if "cpu" not in self.by_device:
            self.by_device["cpu"] = self.bias.exp()
        return F.linear(x, self.kept) + self.by_device["cpu"]


class TwoInputs(nn.Module):
    """Keyword arguments, and an output that is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.inner = nn.Linear(3, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, ids: Tensor, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(torch.tanh(self.embed(ids).sum(1) + self.inner(features)))}


class ActivationCheckpointing(nn.Module):
    """Recomputes activations in the backward pass, by either of torch's kinds."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(5, 5)
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.LayerNorm(5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inner, self.first(x), use_reentrant=self.reentrant))


class _Doubled(torch.autograd.Function):
    """A product written as a custom function, whose calls nobody announces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return 2.0 * x * weight

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return 2.0 * dy * weight, (2.0 * dy * x).sum(0)


class CustomFunction(nn.Module):
    """A parameter inside a custom autograd function, between ordinary layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 6), nn.Linear(6, CLASSES)
        self.weight = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(_Doubled.apply(torch.tanh(self.first(x)), self.weight)))


class Siamese(nn.Module):
    """One encoder for two inputs, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head((self.encoder(left) - self.encoder(right)).abs())


class Answer(NamedTuple):
    logits: Tensor
    hidden: Tensor


class NamedOutput(nn.Module):
    """An output with logits among other things, and bilinear interaction."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(3, 3, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Answer:
        hidden = torch.tanh(self.inner(x, x.flip(1)))
        return Answer(self.head(hidden), hidden)


CASES = [
    Case("custom-function", CustomFunction, images(5),
         {"first.weight": "linear", "weight": "one at a time", "head.weight": "linear"}),
    Case("siamese", Siamese, lambda: {
        "left": torch.randn(EXAMPLES, 2, 6), "right": torch.randn(EXAMPLES, 2, 6)},
        {"encoder.0.weight": "conv1d", "encoder.1.weight": "batch_norm"}),
    Case("named-output", NamedOutput, images(3),
         {"inner.weight": "autograd of one call", "inner.bias": "autograd of one call"}),
    Case("caching", Caching, images(5), {}),
    Case("activation-checkpointing", lambda: ActivationCheckpointing(False), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("activation-checkpointing-reentrant", lambda: ActivationCheckpointing(True), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("two-inputs", TwoInputs, lambda: {
        "ids": torch.randint(6, (EXAMPLES, 2)), "features": torch.randn(EXAMPLES, 3)},
        {"embed.weight": "embedding", "inner.weight": "linear"}),
]  # fmt: skip
