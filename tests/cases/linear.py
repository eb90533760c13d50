"""Linear layers with any number of axes, and examples that do not lie along the first axis."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.cases.case import CLASSES, Case, Flat, images


class TimeMajor(nn.Module):
    """Works on ``[T, N, D]``: the examples lie along axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.head(self.norm(torch.tanh(self.inner(x))).mean(0))


class Windows(nn.Module):
    """Folds windows into the batch, before or after the examples."""

    def __init__(self, windows_first: bool) -> None:
        super().__init__()
        self.windows_first = windows_first
        self.conv = nn.Conv1d(3, 4, 3)
        self.inner = nn.Linear(4, 5)
        self.norm = nn.GroupNorm(1, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        x = x.unflatten(2, (2, -1))  # [N, 3, 2, 6]
        if self.windows_first:
            x = x.permute(2, 0, 1, 3).flatten(0, 1)  # [2 N, 3, 6]
        else:
            x = x.permute(0, 2, 1, 3).flatten(0, 1)
        x = torch.tanh(self.conv(x)).mean(2)
        x = self.norm(torch.tanh(self.inner(x)))
        x = x.view(2, n, -1).mean(0) if self.windows_first else x.view(n, 2, -1).mean(1)
        return self.head(x)


class CalledTwice(nn.Module):
    """One layer of each kind used twice: the cross terms count."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.inner = nn.Linear(3, 3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.norm(self.conv(x)))
        x = x.mean((2, 3))
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class InPlace(nn.Module):
    """In-place activations, adds and assignments after layers that are taken over."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.conv = nn.Conv1d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm1d(2)
        self.token = nn.Parameter(torch.randn(2))
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.first(x))
        x = self.norm(self.conv(x[:, None]))
        x += 1.0
        x[:, :, 0] = self.token
        return self.head(x.flatten(1))


class WrittenBuffer(nn.Module):
    """Results are written into a tensor that was made without a gradient, as caches are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        kept = x.new_zeros(len(x), 6)
        kept[:] = x @ self.weight
        again = torch.zeros_like(kept)
        again.copy_(kept)
        return self.head(torch.tanh(again))


CASES = [
    Case("linear", lambda: Flat(nn.Linear(5, 6), nn.Tanh(), width=6), images(5),
         {"body.0.weight": "linear", "body.0.bias": "linear"}),
    Case("linear-no-bias", lambda: Flat(nn.Linear(5, 6, bias=False), nn.Tanh(), width=6),
         images(5), {"body.0.weight": "linear"}),
    Case("linear-1-position-axis", lambda: Flat(nn.Linear(5, 6), nn.Tanh(), width=18),
         images(3, 5), {"body.0.weight": "linear"}),
    Case("linear-2-position-axes", lambda: Flat(nn.Linear(5, 6), nn.Tanh(), width=36),
         images(3, 2, 5), {"body.0.weight": "linear"}),
    Case("linear-wide", lambda: Flat(nn.Linear(32, 24), nn.Tanh(), width=72), images(3, 32),
         {"body.0.weight": "linear"}),
    Case("time-major", TimeMajor, images(3, 5),
         {"inner.weight": "linear", "norm.weight": "layer_norm"}),
    Case("windows-after-examples", lambda: Windows(False), images(3, 12),
         {"conv.weight": "conv1d", "norm.weight": "group_norm", "inner.weight": "linear"}),
    Case("windows-before-examples", lambda: Windows(True), images(3, 12),
         {"conv.weight": "conv1d", "norm.weight": "group_norm", "inner.weight": "linear"}),
    Case("called-twice", CalledTwice, images(3, 4, 4),
         {"conv.weight": "conv2d", "norm.weight": "batch_norm", "inner.weight": "linear"}),
    Case("in-place", InPlace, images(5),
         {"first.weight": "linear", "conv.weight": "conv1d", "token": "autograd of one call"}),
    Case("written-buffer", WrittenBuffer, images(5),
         {"weight": "matmul", "head.weight": "linear"}),
]  # fmt: skip
