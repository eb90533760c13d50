"""Layers that see some rows of the batch only: experts, and tokens without padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, EXAMPLES, Case, images


class Routed(nn.Module):
    """Sends some examples through a further layer, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.always = nn.Linear(5, 5)
        self.expert = nn.Linear(5, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.always(x))
        chosen = x.sum(1) > 0
        if chosen.any():
            x = x.index_put((chosen,), self.expert(x[chosen]))
        return self.head(x)


class Experts(nn.Module):
    """Each example goes to some of the experts, as mixtures of experts do it."""

    def __init__(self, tokens: bool = False, skipping: bool = False) -> None:
        super().__init__()
        self.tokens, self.skipping = tokens, skipping
        self.router = nn.Linear(5, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 6), nn.PReLU(), nn.LayerNorm(6), nn.Linear(6, 5))
            for _ in range(3)
        )
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        weights, chosen = self.router(rows).softmax(1).topk(2)
        y = torch.zeros_like(rows)
        for k, expert in enumerate(self.experts):
            row, place = (chosen == k).nonzero(as_tuple=True)
            if self.skipping and not len(row):
                continue
            y = y.index_add(0, row, expert(rows[row]) * weights[row, place, None])
        y = torch.tanh(y).view_as(x)
        return self.head(y.mean(1) if self.tokens else y)


class Unpadded(nn.Module):
    """Leaves out rows of padding, then goes on with the others alone, as unpadded attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6, padding_idx=0)
        self.shift = nn.Parameter(torch.randn(6))
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        there = ids > 0
        rows = self.embed(ids[there]) + self.shift  # [R, 6]
        rows = torch.tanh(self.inner(rows))
        y = rows.new_zeros(*ids.shape, 6)
        y[there] = rows
        return self.head(y.sum(1))


CASES = [
    Case("experts", Experts, images(5),
         {"router.weight": "linear", "experts.0.0.weight": "linear, rows traced",
          "experts.1.1.weight": "autograd of one call, rows traced",
          "experts.0.2.bias": "layer_norm, rows traced", "head.weight": "linear"}),
    Case("experts-of-tokens", lambda: Experts(tokens=True), images(4, 5),
         {"experts.0.0.weight": "linear, rows traced", "head.weight": "linear"}),
    Case("unpadded", Unpadded, lambda: torch.randint(9, (EXAMPLES, 4)).index_put(
        (torch.tensor([0, 3, 5]), torch.tensor([0, 2, 3])), torch.tensor(0)),
        {"embed.weight": "embedding, rows traced", "shift": "add, rows traced",
         "inner.weight": "linear, rows traced", "head.weight": "linear"}),
    Case("routed", Routed, images(5),
         {"expert.weight": "linear, rows traced", "always.weight": "linear"}),
]  # fmt: skip
