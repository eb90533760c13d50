"""Whole models as people have them, unmodified, against the oracle; and how much runs by rules."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

import analyze
from tests import oracle

CLASSES = 5
EXAMPLES = 4


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


def vision_transformer() -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=CLASSES,
    )  # fmt: skip


def swin() -> nn.Module:
    return models.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[2, 2],
        num_classes=CLASSES,
    )  # fmt: skip


def convnext() -> nn.Module:
    return models.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)],
                           num_classes=CLASSES)  # fmt: skip


def densenet() -> nn.Module:
    return models.DenseNet(4, (2, 2), 8, num_classes=CLASSES)


IMAGES = (3, 32, 32)
MODELS = [
    ("resnet18", lambda: models.resnet18(num_classes=CLASSES), IMAGES),
    ("mobilenet-v3-small", lambda: models.mobilenet_v3_small(num_classes=CLASSES), IMAGES),
    ("efficientnet-b0", lambda: models.efficientnet_b0(num_classes=CLASSES), IMAGES),
    ("shufflenet-v2", lambda: models.shufflenet_v2_x0_5(num_classes=CLASSES), IMAGES),
    ("densenet", densenet, IMAGES),
    ("convnext", convnext, IMAGES),
    ("vision-transformer", vision_transformer, IMAGES),
    ("swin", swin, IMAGES),
    ("transformer-encoder", lambda: Encoder(True), (5, 16)),
    ("transformer-encoder-time-major", lambda: Encoder(False), (5, 16)),
]
MOSTLY_RULES = 0.95  # share of parameter elements; small transformers have large position tables


def settled(build, size) -> tuple[nn.Module, Tensor, Tensor]:
    """Random weights, constant parameters redrawn, batch norm set by one batch in training mode."""
    torch.manual_seed(0)
    model, inputs = build(), torch.randn(EXAMPLES, *size)
    for parameter in model.parameters():
        first = parameter.detach().flatten()[0]
        if bool((parameter == first).all()):
            nn.init.normal_(parameter, mean=first.item(), std=0.2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
        elif not list(module.children()):
            module.eval()
    with torch.no_grad():
        model(inputs)
    return model.eval(), inputs, torch.arange(EXAMPLES) % CLASSES


@pytest.mark.parametrize(("name", "build", "size"), MODELS, ids=[m[0] for m in MODELS])
def test_ordinary_models_are_exact_and_mostly_run_by_rules(name, build, size):
    model, inputs, targets = settled(build, size)
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets), precision="float64", batch_norm="saved", folds=1,
        device="cpu",
    )  # fmt: skip
    expected = oracle.statistics(model, inputs, targets, [0] * EXAMPLES, 1)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    rounding = set(json.loads(tree.attrs["provenance"])["proof"]["zero_to_rounding"])
    errors = {
        parameter: oracle.relative_error(
            parameters["gradient_sqnorm"].sel(parameter=parameter).values, squares
        )
        for parameter, squares in expected.squared_norms.items()
        if parameter not in rounding
    }
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] < 1e-9, f"{worst}: {errors[worst]:.1e}"
    by_rule = ~np.isin(parameters["method"].values, ["vmap(grad)", "one at a time"])
    sizes = parameters["parameter_count"].values
    assert sizes[by_rule].sum() / sizes.sum() > MOSTLY_RULES
