"""The only list of layers and models: every test of numbers runs over it.

Each case is a small model with an output ``[N, classes]`` (or ``[N, T, classes]``), its inputs,
and the methods that the plan must choose for its parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

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


class Flat(nn.Module):
    """Some layers, flattened, with a linear head of the right size."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


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


class FunctionalEmbedding(nn.Module):
    """Looks up through the functional, with padding counted from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.embedding(x, self.table, padding_idx=-1)).mean(1))


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


class Unused(nn.Module):
    """A parameter never used, and one whose gradient is only rounding (a bias before a norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.inner = nn.Conv1d(1, 4, 1)
        self.norm = nn.GroupNorm(4, 4)
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.inner(x[:, None]))).flatten(1))


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


class TiedTransposed(nn.Module):
    """Input and output embeddings share their weight through a transpose; also a slice of it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES + 3, 6)
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(self.embed(x)).mean(1))
        return (y @ self.embed.weight.T)[:, :CLASSES] + F.linear(y, self.embed.weight[:CLASSES])


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


class Sequence(nn.Module):
    """A recurrent layer over the input, its last output and its last state."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.inner = kind(4, 5, **options)
        self.batch_first = options.get("batch_first", False)
        y, state = self.inner(torch.zeros(2, 3, 4))
        state = state[0] if isinstance(state, tuple) else state
        self.head = nn.Linear(y.shape[-1] + state.shape[0] * state.shape[2], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.inner(x if self.batch_first else x.transpose(0, 1))
        state = state[0] if isinstance(state, tuple) else state
        last = y[:, -1] if self.batch_first else y[-1]
        return self.head(torch.cat((last, state.transpose(0, 1).flatten(1)), 1))


class Cells(nn.Module):
    """Recurrent cells in a loop of the model's own, with learned initial states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(4, 5), nn.GRUCell(5, 3, bias=False)
        self.start = nn.Parameter(torch.randn(1, 5))
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = self.start.expand(len(x), -1), x.new_zeros(len(x), 5)
        y = x.new_zeros(len(x), 3)
        for at in x.unbind(1):
            state = self.lstm(at, state)
            y = self.gru(state[0], y)
        return self.head(y)


class PackedSequence(nn.Module):
    """Sequences of different length packed into one; a layer sees the packed rows as well."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.inner = kind(4, 5, **options)
        width = 5 if not options.get("proj_size") else options["proj_size"]
        width *= 2 if options.get("bidirectional") else 1
        self.rows = nn.Sequential(nn.Linear(width, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6 + width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        lengths = 1 + (x[:, :, 0] > 0).sum(1).clamp(max=x.shape[1] - 1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        y, state = self.inner(packed)
        state = state[0] if isinstance(state, tuple) else state
        last = state[-1] if not self.inner.bidirectional else torch.cat((state[-2], state[-1]), 1)
        rows = nn.utils.rnn.PackedSequence(self.rows(y.data), *y[1:])
        padded = nn.utils.rnn.pad_packed_sequence(rows, batch_first=True)[0]
        return self.head(torch.cat((torch.tanh(padded).sum(1), last), 1))


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


class SortedByLength(nn.Module):
    """Sorts its batch by length, as people do before they pack it, and sorts back at the end."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.embed = nn.Embedding(9, 4)
        self.inner = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:
        length, order = torch.sort(length, descending=True)
        x = torch.tanh(self.embed(ids[order]))
        if self.packed:
            rows = nn.utils.rnn.pack_padded_sequence(x, length.cpu(), batch_first=True)
            last = self.inner(rows)[1][0]
        else:
            y, _ = self.inner(x)
            last = y.gather(1, (length - 1)[:, None, None].expand(-1, 1, 5))[:, 0]
        return self.head(last)[torch.argsort(order)]


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


class DroppedMask(nn.Module):
    """Attention that drops its mask where no example of the batch is padded, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.gate = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids)
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        if not bool(mask.all()):
            scores = scores.masked_fill(mask[:, None] == 0, -1e4)
        y = scores.softmax(2) @ self.value(x) * self.gate
        return self.head(torch.tanh(y[:, 0]))


class ToTheLongest(nn.Module):
    """A loop over time that ends with the longest example of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 5)
        for t in range(int(length.max())):
            new = self.cell(x[:, t], state)
            state = torch.where((t < length)[:, None], new, state)
        return self.head(state)


class EarlyExit(nn.Module):
    """Leaves out a layer where all examples of the batch are done, and another one's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.randn(5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        done = x[:, :1] > 0
        y = torch.tanh(self.first(x))
        if not bool(done.all()):
            y = torch.where(done, y, torch.tanh(self.second(y)) * self.scale)
            y = torch.where(done, y, torch.tanh(self.first(y)))
        return self.head(y)


def quietly(wrap: Callable[[nn.Module], nn.Module], module: nn.Module) -> nn.Module:
    """Apply something that torch calls deprecated, as people still do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(module)


def images(channels: int, *size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(EXAMPLES, channels, *size)


def tokens(vocabulary: int, length: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(vocabulary, (EXAMPLES, length))


def _conv(name: str, layer: Callable[[], nn.Module], size: tuple[int, ...], width: int) -> Case:
    rule = f"conv{len(size) - 1}d"
    return Case(name, lambda: Flat(layer(), nn.Tanh(), width=width), images(*size),
                {"body.0.weight": rule, "head.weight": "linear"})  # fmt: skip


def _transposed(
    name: str, layer: Callable[[], nn.Module], size: tuple[int, ...], width: int
) -> Case:
    rule = f"conv_transpose{len(size) - 1}d"
    return Case(name, lambda: Flat(layer(), nn.Tanh(), width=width), images(*size),
                {"body.0.weight": rule})  # fmt: skip


CASES = [
    _conv("conv1d", lambda: nn.Conv1d(3, 4, 3), (3, 6), 16),
    _conv("conv2d", lambda: nn.Conv2d(3, 4, 3), (3, 6, 5), 48),
    _conv("conv3d", lambda: nn.Conv3d(2, 3, 2), (2, 3, 4, 3), 36),
    _conv("conv2d-stride", lambda: nn.Conv2d(3, 4, 3, stride=(2, 3)), (3, 8, 8), 24),
    _conv("conv2d-padding", lambda: nn.Conv2d(3, 4, 3, padding=(2, 1)), (3, 4, 4), 96),
    _conv("conv2d-dilation", lambda: nn.Conv2d(3, 4, 3, dilation=(1, 2)), (3, 5, 6), 24),
    _conv("conv2d-groups", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 4, 4), 96),
    _conv("conv2d-depthwise", lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5), 36),
    _conv("conv2d-no-bias", lambda: nn.Conv2d(3, 4, 3, bias=False), (3, 5, 5), 36),
    _conv("conv2d-same-even", lambda: nn.Conv2d(3, 4, (4, 2), padding="same"), (3, 5, 5), 100),
    _conv("conv2d-valid", lambda: nn.Conv2d(3, 4, 2, padding="valid"), (3, 3, 3), 16),
    _conv("conv2d-all-options", lambda: nn.Conv2d(
        4, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2), (4, 9, 5), 128),
    _conv("conv2d-circular", lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
          (3, 4, 4), 64),
    _conv("conv2d-one-position", lambda: nn.Conv2d(3, 4, 3), (3, 3, 3), 4),
    _conv("conv2d-groups-one-position", lambda: nn.Conv2d(8, 8, 1, groups=2), (8, 1, 1), 8),
    _conv("conv2d-many-channels", lambda: nn.Conv2d(16, 24, 3, padding=1), (16, 2, 2), 96),
    _transposed("transposed-1d", lambda: nn.ConvTranspose1d(3, 4, 3), (3, 4), 24),
    _transposed("transposed-2d", lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 3, 2), 140),
    _transposed("transposed-3d", lambda: nn.ConvTranspose3d(2, 3, 2), (2, 2, 2, 2), 81),
    _transposed("transposed-all-options", lambda: nn.ConvTranspose2d(
        4, 6, (3, 2), stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2,
        dilation=(1, 2), bias=False), (4, 3, 3), 180),
    _transposed("transposed-large-output-padding", lambda: nn.ConvTranspose2d(
        3, 4, 2, stride=1, output_padding=1, dilation=2), (3, 3, 3), 144),
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
    Case("batch-norm-1d", lambda: Flat(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), width=6),
         images(5), {"body.1.weight": "batch_norm", "body.1.bias": "batch_norm"}),
    Case("batch-norm-2d", lambda: Flat(nn.BatchNorm2d(3), nn.Tanh(), width=36), images(3, 4, 3),
         {"body.0.weight": "batch_norm"}),
    Case("batch-norm-3d", lambda: Flat(nn.BatchNorm3d(2), nn.Tanh(), width=16),
         images(2, 2, 2, 2), {"body.0.weight": "batch_norm"}),
    Case("batch-norm-no-affine", lambda: Flat(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False), nn.Tanh(), width=27),
        images(3, 3, 3), {"body.0.weight": "conv2d"}),
    Case("instance-norm", lambda: Flat(nn.InstanceNorm2d(3, affine=True), nn.Tanh(), width=36),
         images(3, 4, 3), {"body.0.weight": "instance_norm", "body.0.bias": "instance_norm"}),
    Case("instance-norm-tracked", lambda: Flat(
        nn.InstanceNorm1d(3, affine=True, track_running_stats=True), nn.Tanh(), width=12),
        images(3, 4), {"body.0.weight": "instance_norm"}),
    Case("layer-norm", lambda: Flat(nn.LayerNorm(6), nn.Tanh(), width=18), images(3, 6),
         {"body.0.weight": "layer_norm", "body.0.bias": "layer_norm"}),
    Case("layer-norm-2-axes", lambda: Flat(nn.LayerNorm((3, 6)), nn.Tanh(), width=36),
         images(2, 3, 6), {"body.0.weight": "layer_norm"}),
    Case("layer-norm-no-bias", lambda: Flat(nn.LayerNorm(6, bias=False), nn.Tanh(), width=6),
         images(6), {"body.0.weight": "layer_norm"}),
    Case("layer-norm-no-affine", lambda: Flat(
        nn.Linear(6, 6), nn.LayerNorm(6, elementwise_affine=False), nn.Tanh(), width=6),
        images(6), {"body.0.weight": "linear"}),
    Case("layer-norm-eps", lambda: Flat(nn.LayerNorm(6, eps=0.5), nn.Tanh(), width=6), images(6),
         {"body.0.weight": "layer_norm"}),
    Case("group-norm", lambda: Flat(nn.GroupNorm(2, 6), nn.Tanh(), width=24), images(6, 2, 2),
         {"body.0.weight": "group_norm", "body.0.bias": "group_norm"}),
    Case("rms-norm", lambda: Flat(nn.RMSNorm(6), nn.Tanh(), width=18), images(3, 6),
         {"body.0.weight": "rms_norm"}),
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
    Case("time-major", TimeMajor, images(3, 5),
         {"inner.weight": "linear", "norm.weight": "layer_norm"}),
    Case("windows-after-examples", lambda: Windows(False), images(3, 12),
         {"conv.weight": "conv1d", "norm.weight": "group_norm", "inner.weight": "linear"}),
    Case("windows-before-examples", lambda: Windows(True), images(3, 12),
         {"conv.weight": "conv1d", "norm.weight": "group_norm", "inner.weight": "linear"}),
    Case("called-twice", CalledTwice, images(3, 4, 4),
         {"conv.weight": "conv2d", "norm.weight": "batch_norm", "inner.weight": "linear"}),
    Case("tied-embedding", TiedEmbedding, tokens(CLASSES, 3),
         {"embed.weight": "embedding + linear"}),
    Case("language-model", LanguageModel, tokens(9, 5),
         {"embed.weight": "embedding", "position": "add"}, positions=5),
    Case("token-and-position", TokenAndPosition, images(3, 8),
         {"token": "expand", "position": "add", "scale": "mul",
          "attention.in_proj_weight": "linear", "attention.out_proj.weight": "linear"}),
    Case("in-place", InPlace, images(5),
         {"first.weight": "linear", "conv.weight": "conv1d", "token": "autograd of one call"}),
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
    Case("lstm", lambda: Sequence(nn.LSTM, batch_first=True), images(3, 4),
         {"inner.weight_ih_l0": "linear", "inner.weight_hh_l0": "linear",
          "inner.bias_hh_l0": "linear"}),
    Case("lstm-all-options", lambda: Sequence(
        nn.LSTM, num_layers=2, bidirectional=True, proj_size=3, dropout=0.5), images(3, 4),
        {"inner.weight_hr_l1_reverse": "linear", "inner.weight_ih_l1": "linear"}),
    Case("lstm-no-bias", lambda: Sequence(nn.LSTM, bias=False), images(3, 4),
         {"inner.weight_hh_l0": "linear"}),
    Case("gru", lambda: Sequence(nn.GRU, num_layers=2, batch_first=True), images(3, 4),
         {"inner.weight_hh_l1": "linear", "inner.bias_ih_l0": "linear"}),
    Case("rnn", lambda: Sequence(nn.RNN, bidirectional=True), images(3, 4),
         {"inner.weight_hh_l0_reverse": "linear"}),
    Case("rnn-relu", lambda: Sequence(nn.RNN, nonlinearity="relu"), images(3, 4),
         {"inner.weight_hh_l0": "linear"}),
    Case("cells", Cells, images(3, 4),
         {"lstm.weight_hh": "linear", "gru.weight_ih": "linear", "start": "expand"}),
    Case("packed-sequence", PackedSequence, images(3, 4),
         {"inner.weight_hh_l0": "linear, rows traced", "inner.bias_ih_l0": "linear, rows traced",
          "rows.0.weight": "linear, rows traced", "rows.1.weight": "layer_norm, rows traced",
          "head.weight": "linear, rows traced"}),
    Case("packed-lstm-all-options", lambda: PackedSequence(
        num_layers=2, bidirectional=True, proj_size=3), images(4, 4),
        {"inner.weight_hr_l1_reverse": "linear, rows traced",
         "inner.weight_ih_l1": "linear, rows traced", "head.weight": "linear, rows traced"}),
    Case("packed-gru", lambda: PackedSequence(nn.GRU, bidirectional=True), images(4, 4),
         {"inner.weight_hh_l0_reverse": "linear, rows traced"}),
    *(Case(f"sorted-by-length-{name}", lambda packed=packed: SortedByLength(packed), lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "length": torch.tensor([4, 4, 4, 4, 4, 3, 4])},
        {"embed.weight": "embedding, rows traced", "inner.weight_hh_l0": "linear, rows traced",
         "head.weight": "linear, rows traced"})
      for name, packed in (("packed", True), ("padded", False))),
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
    Case("custom-function", CustomFunction, images(5),
         {"first.weight": "linear", "weight": "one at a time", "head.weight": "linear"}),
    Case("siamese", Siamese, lambda: {
        "left": torch.randn(EXAMPLES, 2, 6), "right": torch.randn(EXAMPLES, 2, 6)},
        {"encoder.0.weight": "conv1d", "encoder.1.weight": "batch_norm"}),
    Case("named-output", NamedOutput, images(3),
         {"inner.weight": "autograd of one call", "inner.bias": "autograd of one call"}),
    Case("caching", Caching, images(5), {}),
    Case("unused", Unused, images(5), {"spare.weight": "never used"}),
    Case("activation-checkpointing", lambda: ActivationCheckpointing(False), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("activation-checkpointing-reentrant", lambda: ActivationCheckpointing(True), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("two-inputs", TwoInputs, lambda: {
        "ids": torch.randint(6, (EXAMPLES, 2)), "features": torch.randn(EXAMPLES, 3)},
        {"embed.weight": "embedding", "inner.weight": "linear"}),
    Case("written-buffer", WrittenBuffer, images(5),
         {"weight": "matmul", "head.weight": "linear"}),
    Case("routed", Routed, images(5),
         {"expert.weight": "linear, rows traced", "always.weight": "linear"}),
    Case("complex-filter", ComplexFilter, images(8),
         {"first.weight": "linear", "filter": "autograd of one call",
          "mixing": "autograd of one call, derived", "pairs": "autograd of one call, derived",
          "scale": "autograd of one call"}),
    Case("complex-rotary", Rotary, tokens(6, 5),
         {"embed.weight": "embedding", "query.weight": "linear", "key.weight": "linear"}),
    Case("truth-values", Masked, lambda: {
        "ids": torch.randint(6, (EXAMPLES, 5)), "pad": torch.arange(5) > torch.arange(
            1, EXAMPLES + 1)[:, None]},
         {"embed.weight": "embedding", "layer.self_attn.in_proj_weight": "linear"}),
]  # fmt: skip


# Which calls they make depends on which examples are in a batch.
OF_THE_BATCH = [
    Case("dropped-mask", DroppedMask, lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "mask": padding(4, [4, 4, 4, 2, 4, 4, 1])},
        {"embed.weight": "embedding", "query.weight": "linear", "value.bias": "linear",
         "gate": "mul", "head.weight": "linear"}),
    Case("dropped-mask-mostly-padded", DroppedMask, lambda: {
        "ids": torch.randint(9, (EXAMPLES, 4)), "mask": padding(4, [4, 3, 4, 2, 4, 3, 1])},
        {"embed.weight": "embedding", "query.weight": "linear", "gate": "mul"}),
    Case("to-the-longest", ToTheLongest, lambda: {
        "x": torch.randn(EXAMPLES, 4, 3), "length": torch.tensor([2, 2, 1, 4, 4, 3, 1])},
        {"cell.weight_ih": "linear", "cell.weight_hh": "linear", "cell.bias_hh": "linear"}),
    Case("experts-skipped", lambda: Experts(skipping=True), images(5),
         {"router.weight": "linear", "experts.0.0.weight": "linear, rows traced",
          "head.weight": "linear"}),
    Case("experts-of-tokens-skipped", lambda: Experts(True, True), images(2, 5),
         {"router.weight": "linear", "experts.0.0.weight": "linear, rows traced",
          "head.weight": "linear"}),
    Case("early-exit", EarlyExit, lambda: torch.cat((
        torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0])[:, None],
        torch.randn(EXAMPLES, 4)), 1),
        {"first.weight": "linear", "second.weight": "linear", "scale": "mul"}),
]  # fmt: skip


def padding(length: int, used: list[int]) -> Tensor:
    """A mask that is one at the used positions of each example."""
    return (torch.arange(length) < torch.tensor(used)[:, None]).long()


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
