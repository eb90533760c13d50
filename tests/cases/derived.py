"""Weights computed from other parameters: normalised, low-rank, complex."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.cases.case import CLASSES, Case, Flat, images, tokens


class LowRank(nn.Module):
    """A weight plus a low-rank product, and a weight standardised before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 5))
        self.up = nn.Parameter(torch.randn(6, 2))
        self.down = nn.Parameter(torch.randn(2, 5))
        self.kernel = nn.Parameter(torch.randn(3, 1, 3))
        self.head = nn.Linear(18, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.linear(x, self.weight + 0.5 * self.up @ self.down))
        mean, std = self.kernel.mean((1, 2), keepdim=True), self.kernel.std((1, 2), keepdim=True)
        x = F.conv1d(x[:, None], (self.kernel - mean) / (std + 0.1), padding=1)
        return self.head(torch.tanh(x).flatten(1))


class ComplexFilter(nn.Module):
    """Complex parameters, a real one beside complex numbers, and pairs that are read as complex."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.filter = nn.Parameter(torch.randn(5, dtype=torch.complex64))
        self.mixing = nn.Parameter(torch.randn(5, 5, dtype=torch.complex64))
        self.pairs = nn.Parameter(torch.randn(5, 2))
        self.scale = nn.Parameter(torch.randn(5))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.rfft(torch.tanh(self.first(x))) * self.filter  # [N, 5]
        z = z @ self.mixing.mH * torch.view_as_complex(self.pairs) * self.scale
        return self.head(torch.tanh(torch.fft.irfft(z, n=8)))


class Rotary(nn.Module):
    """Attention with a table of rotations as a complex buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 8)
        self.query, self.key, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        angles = torch.outer(torch.arange(5.0), 10 ** -torch.arange(0, 1, 0.25))
        self.register_buffer("rotations", torch.polar(torch.ones(5, 4), angles))

    def turned(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * self.rotations)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        query, key = self.turned(self.query(x)).flatten(2), self.turned(self.key(x)).flatten(2)
        return self.head(F.scaled_dot_product_attention(query, key, x)[:, -1])


def quietly(wrap: Callable[[nn.Module], nn.Module], module: nn.Module) -> nn.Module:
    """Apply something that torch calls deprecated, as people still do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(module)


CASES = [
    Case("weight-norm", lambda: Flat(
        parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh(), width=6), images(5),
        {"body.0.parametrizations.weight.original0": "linear, derived", "body.0.bias": "linear"}),
    Case("weight-norm-hook", lambda: Flat(
        quietly(nn.utils.weight_norm, nn.Linear(5, 6)), nn.Tanh(), width=6), images(5),
        {"body.0.weight_v": "linear, derived", "body.0.weight_g": "linear, derived"}),
    Case("spectral-norm", lambda: Flat(
        parametrizations.spectral_norm(nn.Conv1d(2, 3, 2)), nn.Tanh(), width=9), images(2, 4),
        {"body.0.parametrizations.weight.original": "conv1d, derived"}),
    Case("low-rank", LowRank, images(5),
         {"weight": "linear, derived", "up": "linear, derived", "down": "linear, derived",
          "kernel": "conv1d, derived"}),
    Case("complex-filter", ComplexFilter, images(8),
         {"first.weight": "linear", "filter": "autograd of one call",
          "mixing": "autograd of one call, derived", "pairs": "autograd of one call, derived",
          "scale": "autograd of one call"}),
    Case("complex-rotary", Rotary, tokens(6, 5),
         {"embed.weight": "embedding", "query.weight": "linear", "key.weight": "linear"}),
]  # fmt: skip
