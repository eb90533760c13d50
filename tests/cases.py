"""The only list of layers and models: every test of numbers runs over it.

Each case is a small model with an output ``[N, classes]`` (or ``[N, T, classes]``), its inputs,
and the methods that the plan must choose for its parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


class Recurrent(nn.Module):
    """An LSTM, which only the fallback measures."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


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
        {"body.0.weight": "one at a time", "head.weight": "linear"}),
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
         {"embed.weight": "embedding", "position": "vmap(grad)"}, positions=5),
    Case("token-and-position", TokenAndPosition, images(3, 8),
         {"token": "vmap(grad)", "position": "vmap(grad)", "scale": "vmap(grad)",
          "attention.in_proj_weight": "linear", "attention.out_proj.weight": "linear"}),
    Case("in-place", InPlace, images(5),
         {"first.weight": "linear", "conv.weight": "conv1d", "token": "vmap(grad)"}),
    Case("weight-norm", lambda: Flat(
        parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh(), width=6), images(5),
        {"body.0.parametrizations.weight.original0": "vmap(grad)", "body.0.bias": "linear"}),
    Case("recurrent", Recurrent, images(3, 4), {"head.weight": "linear"}),
    Case("caching", Caching, images(5), {}),
    Case("unused", Unused, images(5), {"spare.weight": "never used"}),
    Case("activation-checkpointing", lambda: ActivationCheckpointing(False), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("activation-checkpointing-reentrant", lambda: ActivationCheckpointing(True), images(5),
         {"inner.0.weight": "linear", "inner.2.weight": "layer_norm"}),
    Case("two-inputs", TwoInputs, lambda: {
        "ids": torch.randint(6, (EXAMPLES, 2)), "features": torch.randn(EXAMPLES, 3)},
        {"embed.weight": "embedding", "inner.weight": "linear"}),
    Case("routed", Routed, images(5), {"expert.weight": "one at a time"}),
]  # fmt: skip


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
