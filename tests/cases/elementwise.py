"""Parameters added, multiplied, chosen and copied, without a layer of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.cases.case import CLASSES, Case, images


class Arithmetic(nn.Module):
    """Parameters added, subtracted, multiplied, divided, gated, in place and not."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(3, 1))
        self.scale = nn.Parameter(torch.randn(4))
        self.divisor = nn.Parameter(torch.rand(3, 4) + 1.0)
        self.gate = nn.Parameter(torch.randn(()))
        self.numerator = nn.Parameter(torch.randn(4))
        self.late = nn.Parameter(torch.randn(1, 3, 4))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sub(x, self.shift, alpha=2)
        y = self.scale * x / (self.divisor.abs() + 1.0)
        y = torch.tanh(self.gate) * y + self.numerator / (x * x + 1.0)
        y = y.sigmoid().clone()
        y *= self.late
        y += self.late
        y.sub_(self.scale)
        return self.head((self.scale - y).flatten(1))


class Queries(nn.Module):
    """Learned queries that are not expanded, a mask token, and a table joined to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 2, 4))
        self.token = nn.Parameter(torch.randn(4))
        self.slope = nn.PReLU(3)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(x)
        x = torch.where(x.sum(2, keepdim=True) > 0, x, self.token)
        return self.head(F.scaled_dot_product_attention(self.queries, x, x).flatten(1))


class SharedSlope(nn.Module):
    """One PReLU at several places, one of them a head that the loss does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)
        self.slope = nn.PReLU(6)
        self.aside = nn.Sequential(nn.Linear(6, 6), self.slope, nn.Linear(6, CLASSES))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.slope(self.second(self.slope(self.first(x))))
        return {"logits": self.head(y), "aside": self.aside(y)}


class SharedToken(nn.Module):
    """A token assigned and chosen at several places: other kinds of one call, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(5))
        self.bilinear = nn.Bilinear(5, 5, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.where(x > 0, x, self.token)
        y = torch.tanh(self.bilinear(y, x))
        y = torch.where(y > 0, self.bilinear(x, y), self.token)
        return self.head(torch.lerp(y, self.token, 0.3))


class Copies(nn.Module):
    """Parameters made as large as the batch, in all the ways there are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 1, 4))
        self.second = nn.Parameter(torch.randn(2, 4))
        self.third = nn.Parameter(torch.randn(4))
        self.fourth = nn.Parameter(torch.randn(1, 4))
        self.fifth = nn.Parameter(torch.randn(1, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        parts = [
            self.first.expand(n, -1, -1),
            self.second.repeat(n, 1, 1),
            self.third.expand_as(x[:, :1]),
            self.fourth.repeat_interleave(2 * n, 0).view(n, 2, 4),
            self.fifth.new_zeros(n, 1, 4) + self.fifth,
            x,
        ]
        x = torch.cat(parts, 1)
        return self.head((x.tanh().cumsum(1) * x.softmax(2)).mean(1))


CASES = [
    Case("arithmetic", Arithmetic, images(3, 4),
         {"shift": "sub", "scale": "mul + sub", "divisor": "div, derived", "gate": "mul, derived",
          "numerator": "div", "late": "mul + add"}),
    Case("queries", Queries, images(3, 4),
         {"queries": "autograd of one call", "token": "autograd of one call",
          "slope.weight": "autograd of one call"}),
    Case("shared-slope", SharedSlope, images(5),
         {"slope.weight": "autograd of one call", "first.weight": "linear",
          "aside.0.weight": "never used"}),
    Case("shared-token", SharedToken, images(5),
         {"token": "autograd of one call", "bilinear.weight": "autograd of one call"}),
    Case("copies", Copies, images(3, 4),
         {"first": "expand", "second": "repeat", "third": "expand",
          "fourth": "autograd of one call, masked", "fifth": "add"}),
]  # fmt: skip
