"""Embeddings, bags of them, tied ones, and tables that are indexed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.cases.case import CLASSES, Case, Flat, tokens


class FunctionalEmbedding(nn.Module):
    """Looks up through the functional, with padding counted from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.embedding(x, self.table, padding_idx=-1)).mean(1))


class TiedEmbedding(nn.Module):
    """Input and output embeddings share their weight; a language model's last token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.embed(x)).mean(1)))


class TiedTransposed(nn.Module):
    """Input and output embeddings share their weight through a transpose; also a slice of it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES + 3, 6)
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(self.embed(x)).mean(1))
        return (y @ self.embed.weight.T)[:, :CLASSES] + F.linear(y, self.embed.weight[:CLASSES])


class LanguageModel(nn.Module):
    """A prediction at every position: ``[N, T, classes]``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.position = nn.Parameter(torch.randn(5, 6))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(x) + self.position))


class Tables(nn.Module):
    """Tables indexed by the examples and by fixed positions, as relative positions are."""

    def __init__(self) -> None:
        super().__init__()
        self.indexed = nn.Parameter(torch.randn(5, 2, 2))
        self.selected = nn.Parameter(torch.randn(5, 4))
        self.relative = nn.Parameter(torch.randn(7, 2))
        self.one_hot = nn.Parameter(torch.randn(5, 4))
        self.register_buffer("distance", torch.arange(4)[:, None] - torch.arange(4) + 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.indexed[x].flatten(2)  # [N, 4, 4]
        y = y + torch.index_select(self.selected, 0, x.flatten()).view(len(x), 4, 4)
        y = y + F.one_hot(x, 5).to(y) @ self.one_hot
        scores = (y @ y.transpose(1, 2))[:, None] + self.relative[self.distance].permute(2, 0, 1)
        return self.head((scores.softmax(3).mean(1) @ y).tanh().mean(1))


class Bag(nn.Module):
    """An embedding bag, its entries in rows or one after the other with offsets."""

    def __init__(self, offsets: bool = False, weighted: bool = False, **options: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 4, **options)
        self.offsets = offsets
        self.importance = nn.Parameter(torch.rand(5)) if weighted else None
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights = None if self.importance is None else self.importance[x]
        if not self.offsets:
            return self.head(torch.tanh(self.bag(x, per_sample_weights=weights)))
        starts = torch.arange(len(x), device=x.device) * x.shape[1]
        if self.bag.include_last_offset:
            starts = torch.cat((starts, starts.new_tensor([x.numel()])))
        weights = None if weights is None else weights.flatten()
        return self.head(torch.tanh(self.bag(x.flatten(), starts, per_sample_weights=weights)))


CASES = [
    Case("embedding", lambda: Flat(nn.Embedding(5, 4), nn.Tanh(), width=24), tokens(5, 6),
         {"body.0.weight": "embedding"}),
    Case("embedding-padding", lambda: Flat(
        nn.Embedding(5, 4, padding_idx=2), nn.Tanh(), width=24), tokens(5, 6),
        {"body.0.weight": "embedding"}),
    Case("embedding-padding-from-the-end", lambda: Flat(
        nn.Embedding(5, 4, padding_idx=-1), nn.Tanh(), width=24), tokens(5, 6),
        {"body.0.weight": "embedding"}),
    Case("embedding-functional", FunctionalEmbedding, tokens(5, 6), {"table": "embedding"}),
    Case("embedding-max-norm", lambda: Flat(
        nn.Embedding(5, 4, max_norm=0.5), nn.Tanh(), width=24), tokens(5, 6),
        {"body.0.weight": "embedding", "head.weight": "linear"}),
    Case("embedding-sparse", lambda: Flat(
        nn.Embedding(5, 4, sparse=True), nn.Tanh(), width=8), tokens(5, 2),
        {"body.0.weight": "embedding"}),
    Case("tied-embedding", TiedEmbedding, tokens(CLASSES, 3),
         {"embed.weight": "embedding + linear"}),
    Case("language-model", LanguageModel, tokens(9, 5),
         {"embed.weight": "embedding", "position": "add"}, positions=5),
    Case("tables", Tables, tokens(5, 4),
         {"indexed": "getitem", "selected": "index_select", "one_hot": "matmul",
          "relative": "add, derived"}),
    Case("tied-transposed", TiedTransposed, tokens(CLASSES + 3, 3),
         {"embed.weight": "embedding + matmul + linear"}),
    *(Case(f"embedding-bag-{mode}", lambda mode=mode: Bag(mode=mode, padding_idx=1), tokens(5, 6),
           {"bag.weight": "embedding"}) for mode in ("sum", "mean", "max")),
    Case("embedding-bag-offsets", lambda: Bag(True, max_norm=0.6), tokens(5, 6),
         {"bag.weight": "embedding"}),
    Case("embedding-bag-last-offset", lambda: Bag(
        True, mode="max", include_last_offset=True), tokens(5, 6), {"bag.weight": "embedding"}),
    Case("embedding-bag-weighted", lambda: Bag(weighted=True, mode="sum"), tokens(5, 6),
         {"bag.weight": "embedding", "importance": "getitem"}),
    Case("embedding-bag-weighted-offsets", lambda: Bag(True, True, mode="sum"), tokens(5, 6),
         {"bag.weight": "embedding", "importance": "getitem"}),
]  # fmt: skip
