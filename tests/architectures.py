"""Whole models as people have them, built small, with random weights that prove something.

A model fresh from its constructor has constant logits, or gradients of 1e-29 or 1e10: constant
parameters are redrawn, and the statistics of batch norm set by one batch in training mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import VGG, make_layers

from analyze.models.builtin import SmallInception, SmallResNet
from tests import oracle

CLASSES = 5
EXAMPLES = 4
VOCABULARY = 40


@dataclass(frozen=True)
class Architecture:
    """A model, the shape of one input (none: a sequence of token ids), and its predictions."""

    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, ...] = (3, 32, 32)
    tokens: int = 0  # length of a sequence of token ids


class Encoder(nn.Module):
    """``nn.TransformerEncoder``, with the batch first or second."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.batch_first = batch_first
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


class Translator(nn.Module):
    """``nn.Transformer``: an encoder, and a decoder that attends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.inner = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.head(self.inner(x, x.flip(1), tgt_mask=mask).mean(1))


class LongShortTermMemory(nn.Module):
    """A classifier of token sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 12, padding_idx=0)
        self.inner = nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.embed(x))[0].amax(1))


class Volumes(nn.Sequential):
    """A network of 3-D convolutions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(6, 8, 3, stride=2, groups=2), nn.GroupNorm(2, 8), nn.SiLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, CLASSES),
        )  # fmt: skip


class UNet(nn.Module):
    """Down and up again with transposed convolutions; a class for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(True))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True))
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        x = torch.cat((x, self.up(self.bottom(x))), 1)
        return self.head(torch.relu(self.out(x))).mean((2, 3))


def vgg_bn() -> nn.Module:
    """Torchvision's VGG with a narrow classifier: its own has 120 million weights."""
    model = VGG(make_layers([16, "M", 32, "M", 64, "M", 512], batch_norm=True), num_classes=CLASSES,
                init_weights=False)  # fmt: skip
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier[0] = nn.Linear(512, 64)
    model.classifier[3] = nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, CLASSES)
    return model


def vision_transformer() -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=CLASSES,
    )  # fmt: skip


def swin(version: int) -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    newer = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return models.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[2, 2],
        num_classes=CLASSES, **(newer if version == 2 else {}),
    )  # fmt: skip


def maxvit() -> nn.Module:
    return models.MaxVit(
        input_size=(32, 32), stem_channels=8, partition_size=4, block_channels=[16, 16],
        block_layers=[1, 1], head_dim=8, stochastic_depth_prob=0.0, num_classes=CLASSES,
    )  # fmt: skip


def convnext() -> nn.Module:
    return models.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)],
                           num_classes=CLASSES)  # fmt: skip


def from_timm(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        timm = pytest.importorskip("timm")
        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **arguments)

    return build


def mixer() -> nn.Module:
    mlp_mixer = pytest.importorskip("timm.models.mlp_mixer")
    return mlp_mixer.MlpMixer(
        num_classes=CLASSES, img_size=32, patch_size=8, num_blocks=2, embed_dim=32
    )


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=16, n_embd=32, n_layer=2, n_head=2, use_cache=False,
        tie_word_embeddings=True,
    ))  # fmt: skip


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=16, num_labels=CLASSES,
    ))  # fmt: skip


ARCHITECTURES = [
    Architecture("resnet18", lambda: models.resnet18(num_classes=CLASSES)),
    Architecture("resnet50", lambda: models.resnet50(num_classes=CLASSES)),
    Architecture("vgg-bn", vgg_bn),
    Architecture("inception-v3", lambda: models.inception_v3(
        num_classes=CLASSES, init_weights=False, transform_input=True), (3, 80, 80)),
    Architecture("googlenet", lambda: models.googlenet(num_classes=CLASSES, init_weights=False)),
    Architecture("densenet", lambda: models.DenseNet(4, (2, 2), 8, num_classes=CLASSES)),
    Architecture("mobilenet-v3-small", lambda: models.mobilenet_v3_small(num_classes=CLASSES)),
    Architecture("efficientnet-b0", lambda: models.efficientnet_b0(num_classes=CLASSES)),
    Architecture("convnext", convnext),
    Architecture("shufflenet-v2", lambda: models.shufflenet_v2_x0_5(num_classes=CLASSES)),
    Architecture("regnet-y", lambda: models.regnet_y_400mf(num_classes=CLASSES), (3, 64, 64)),
    Architecture("maxvit", maxvit),
    Architecture("swin", lambda: swin(1)),
    Architecture("swin-v2", lambda: swin(2)),
    Architecture("vision-transformer", vision_transformer),
    Architecture("timm-vit", from_timm(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2)),
    Architecture("timm-vit-everything", from_timm(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2, init_values=0.1,
        qk_norm=True, global_pool="map", reg_tokens=2)),
    Architecture("timm-mixer", mixer),
    Architecture("timm-convnext", from_timm(
        "convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 16, 32))),
    Architecture("timm-beit", from_timm(
        "beit_base_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)),
    Architecture("timm-nfnet", from_timm("test_nfnet")),
    Architecture("transformer-encoder", lambda: Encoder(True), (5, 16)),
    Architecture("transformer-encoder-time-major", lambda: Encoder(False), (5, 16)),
    Architecture("transformer", Translator, tokens=6),
    Architecture("gpt2", gpt2, tokens=7),
    Architecture("bert", bert, tokens=7),
    Architecture("lstm-classifier", LongShortTermMemory, tokens=9),
    Architecture("volumes", Volumes, (1, 8, 8, 8)),
    Architecture("u-net", UNet),
    Architecture("small-inception", lambda: SmallInception(CLASSES, width=4), (1, 14, 14)),
    Architecture("small-resnet-group-norm",
                 lambda: SmallResNet(CLASSES, width=6, norm="group"), (1, 14, 14)),
    Architecture("small-resnet-no-norm",
                 lambda: SmallResNet(CLASSES, width=4, norm="none"), (1, 14, 14)),
]  # fmt: skip


def settled(architecture: Architecture) -> tuple[nn.Module, Tensor, Tensor]:
    """The model in eval mode, inputs and targets, from a fixed seed."""
    torch.manual_seed(0)
    model = architecture.build()
    inputs = torch.randn(EXAMPLES, *architecture.size)
    if architecture.tokens:
        inputs = torch.randint(VOCABULARY, (EXAMPLES, architecture.tokens))
    for parameter in model.parameters():
        first = parameter.detach().flatten()[0]
        if bool((parameter == first).all()):
            nn.init.normal_(parameter, mean=first.item(), std=0.2)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        model(inputs)
        output = oracle.call(model.eval(), inputs)
    # The least likely class: where an example is fitted, the oracle's own backward pass rounds.
    return model, inputs, output.argmin(-1)
