"""Attention in all its options, and the models made of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.cases.case import CLASSES, EXAMPLES, Case, images


class Attention(nn.Module):
    """Attention between two sequences made from the input; options go to the module."""

    def __init__(self, cross: bool, query_width: int = 8, **options: Any) -> None:
        super().__init__()
        self.cross = cross
        self.query = nn.Linear(4, query_width)
        self.keys = nn.Linear(4, options.get("kdim", query_width))
        self.values = nn.Linear(4, options.get("vdim", query_width))
        self.inner = nn.MultiheadAttention(query_width, 2, **options)
        self.batch_first = options.get("batch_first", False)
        self.head = nn.Linear(query_width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        q = self.query(x)
        k, v = (self.keys(x), self.values(x)) if self.cross else (q, q)
        y = self.inner(q, k, v, need_weights=False)[0]
        return self.head(torch.tanh(y).mean(1 if self.batch_first else 0))


class TokenAndPosition(nn.Module):
    """A vision transformer in small: class token, position embedding, attention, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.patches = nn.Conv1d(3, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale = nn.Parameter(torch.randn(8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).transpose(1, 2)  # [N, 4, 8]
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.position
        h = self.norm(x)
        x = x + self.scale * self.attention(h, h, h, need_weights=False)[0]
        return self.head(x[:, 0])


class Masked(nn.Module):
    """Truth values among the inputs, as a padding mask and in arithmetic with what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor, pad: Tensor) -> Tensor:
        kept = (~pad)[..., None]
        x = self.layer(self.embed(ids), src_key_padding_mask=pad)
        return self.head((x * kept).sum(1) / kept.sum(1))


CASES = [
    Case("token-and-position", TokenAndPosition, images(3, 8),
         {"token": "expand", "position": "add", "scale": "mul",
          "attention.in_proj_weight": "linear", "attention.out_proj.weight": "linear"}),
    Case("attention", lambda: Attention(False, batch_first=True), images(3, 4),
         {"inner.in_proj_weight": "linear", "inner.in_proj_bias": "linear",
          "inner.out_proj.weight": "linear"}),
    Case("attention-time-major", lambda: Attention(False), images(3, 4),
         {"inner.in_proj_weight": "linear"}),
    Case("attention-cross", lambda: Attention(True), images(3, 4),
         {"inner.in_proj_weight": "linear", "inner.in_proj_bias": "linear"}),
    Case("attention-unpacked", lambda: Attention(True, kdim=6, vdim=10), images(3, 4),
         {"inner.q_proj_weight": "linear", "inner.k_proj_weight": "linear",
          "inner.v_proj_weight": "linear"}),
    Case("attention-bias-kv", lambda: Attention(
        True, add_bias_kv=True, add_zero_attn=True, bias=False), images(3, 4),
        {"inner.bias_k": "repeat", "inner.bias_v": "repeat"}),
    Case("truth-values", Masked, lambda: {
        "ids": torch.randint(6, (EXAMPLES, 5)), "pad": torch.arange(5) > torch.arange(
            1, EXAMPLES + 1)[:, None]},
         {"embed.weight": "embedding", "layer.self_attn.in_proj_weight": "linear"}),
]  # fmt: skip
