"""The models that are timed, each with a batch as it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
VOCABULARY = 8192


@dataclass(frozen=True)
class Workload:
    """A model in eval mode, and how many examples of which shape it gets.

    Args:
        name: As the table has it.
        build: Makes the model.
        batch: Examples.
        share: Those that a thread has at a time where several share a checkpoint: as many as let
            all of them hold about what a plain step does. 0 where none do.
        image: Pixels of a side, 0 for sequences of tokens.
        tokens: Of a sequence.
        vocabulary: Of the tokens; images have ``CLASSES`` classes.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: int
    share: int = 0
    image: int = 0
    tokens: int = 0
    vocabulary: int = VOCABULARY

    def make(self, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
        """Model, inputs and targets from a fixed seed."""
        torch.manual_seed(0)
        model = self.build().eval().to(device)
        if self.image:
            inputs = torch.randn(self.batch, 3, self.image, self.image)
            targets = torch.randint(CLASSES, (self.batch,))
        else:
            inputs, targets = torch.randint(self.vocabulary, (2, self.batch, self.tokens))
        return model, inputs.to(device), targets.to(device)

    @property
    def what(self) -> str:
        """Size of an example, and of the batch."""
        size = f"{self.image} px" if self.image else f"{self.tokens} tokens"
        return f"{size}, batch {self.batch}"


class Block(nn.Module):
    """A block of GPT-2: attention and two layers of which the inner is four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, T, width]`` to the same."""
        n, t, width = x.shape
        shape = (n, t, self.heads, width // self.heads)
        q, k, v = (
            part.view(shape).transpose(1, 2) for part in self.qkv(self.norm_1(x)).split(width, 2)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(n, t, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """A language model like GPT-2, its output layer tied to the embedding of the tokens."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[N, T]`` to logits ``[N, vocabulary, T]``."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(num_classes=CLASSES)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=CLASSES)


WORKLOADS = {
    "cpu": [
        Workload("ResNet-18", _torchvision("resnet18"), 32, share=28, image=64),
        Workload("ResNet-50", _torchvision("resnet50"), 32, share=28, image=64),
        Workload("MobileNet-v3-small", _torchvision("mobilenet_v3_small"), 32, share=24, image=64),
        Workload("ViT-Tiny", partial(_timm, "vit_tiny_patch16_224"), 8, share=7, image=224),
        Workload("GPT-2-like, 6 layers", lambda: Transformer(VOCABULARY, 384, 6, 6, 256), 8,
                 share=7, tokens=256),
    ],
    "cuda": [
        Workload("ResNet-50", _torchvision("resnet50"), 64, image=224),
        Workload("ViT-B/16", partial(_timm, "vit_base_patch16_224"), 32, image=224),
        Workload("GPT-2-small-sized", lambda: Transformer(50257, 768, 12, 12, 512), 8,
                 tokens=512, vocabulary=50257),
    ],
}  # fmt: skip

FIRST = [  # of which the first number is timed
    WORKLOADS["cpu"][0],
    Workload("ResNet-34", _torchvision("resnet34"), 32, image=64),
    *WORKLOADS["cpu"][2:],
]


def named(device: str, name: str) -> Workload:
    """The workload of this name."""
    return next(workload for workload in WORKLOADS[device] if workload.name == name)
