"""Matrix products with a parameter, in one of the many ways to write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, Case, images


class Products(nn.Module):
    """Matrix products with a parameter, written in one of many ways."""

    def __init__(self, how: Callable[[Tensor, Tensor], Tensor], *shape: int, width: int) -> None:
        super().__init__()
        self.how = how
        self.matrix = nn.Parameter(torch.randn(*shape))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.how(x, self.matrix)).flatten(1))


class Conv1D(nn.Module):
    """The linear layer of GPT-2: ``addmm`` with the transposed weight."""

    def __init__(self, **scales: float) -> None:
        super().__init__()
        self.scales = scales
        self.weight = nn.Parameter(torch.randn(5, 6))
        self.bias = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(18, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, x.flatten(0, 1), self.weight, **self.scales)
        return self.head(torch.tanh(y).view(len(x), -1))


CASES = [
    Case("matmul", lambda: Products(lambda x, w: x @ w, 5, 6, width=18), images(3, 5),
         {"matrix": "matmul"}),
    Case("matmul-from-the-left", lambda: Products(lambda x, w: w @ x, 6, 3, width=30),
         images(3, 5), {"matrix": "matmul"}),
    Case("matmul-mm", lambda: Products(torch.mm, 5, 6, width=6), images(5), {"matrix": "matmul"}),
    Case("matmul-groups", lambda: Products(torch.matmul, 3, 5, 2, width=24), images(3, 4, 5),
         {"matrix": "matmul"}),
    Case("matmul-vector", lambda: Products(torch.matmul, 5, width=3), images(3, 5),
         {"matrix": "matmul"}),
    Case("matmul-broadcast", lambda: Products(torch.matmul, 1, 5, 2, width=24), images(3, 4, 5),
         {"matrix": "autograd of one call"}),
    Case("einsum", lambda: Products(
        lambda x, w: torch.einsum("nhtk,hko->nhto", x, w), 3, 5, 2, width=24), images(3, 4, 5),
        {"matrix": "einsum"}),
    Case("einsum-ellipsis", lambda: Products(
        lambda x, w: torch.einsum("ok,...k->...o", w, x), 6, 5, width=18), images(3, 5),
        {"matrix": "einsum"}),
    Case("einsum-two-inputs", lambda: Products(
        lambda x, w: torch.einsum("ntab,oab->not", x, w), 6, 4, 5, width=18), images(3, 4, 5),
        {"matrix": "einsum"}),
    Case("einsum-diagonal", lambda: Products(
        lambda x, w: torch.einsum("nts,ss->nts", x, w), 5, 5, width=15), images(3, 5),
        {"matrix": "autograd of one call"}),
    Case("addmm", Conv1D, images(3, 5), {"weight": "addmm", "bias": "addmm"}),
    Case("addmm-scaled", lambda: Conv1D(alpha=0.5, beta=2.0), images(3, 5),
         {"weight": "autograd of one call"}),
]  # fmt: skip
