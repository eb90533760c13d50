"""Models that nobody tuned the engine on: drawn from the registries of torchvision and timm."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from analyze.errors import InputError
from scripts.benchmarking.one_cell import one_cell
from scripts.benchmarking.workloads import CLASSES, Workload

SEED = 30
EACH = 5  # models from each registry
LARGEST = 30e6  # parameters
SMALL, BATCH = 64, 32  # pixels of a side, and the batch
OWN_AT_MOST, OWN_BATCH = 256, 8  # for models that take only the size they were made for
TUNED_ON = {
    "resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "vit_tiny_patch16_224",
}  # fmt: skip
Build = Callable[[str], nn.Module]


def unseen_models() -> list[Workload]:
    """``EACH`` models of each registry, the same ones for the same ``SEED`` and versions.

    Random weights, fewer than ``LARGEST`` parameters, ``SMALL`` pixels where a model takes these.
    """
    order = random.Random(SEED)
    registries: list[tuple[str, list[str], Build]] = [
        ("torchvision", torchvision.models.list_models(torchvision.models), _torchvision),
        ("timm", timm.list_models(), partial(timm.create_model, num_classes=CLASSES)),
    ]
    chosen: list[Workload] = []
    for registry, names, build in registries:
        candidates = sorted({*names} - TUNED_ON)
        drawn = order.sample(candidates, len(candidates))
        chosen += islice(_suitable(registry, drawn, build), EACH)
    return chosen


def unseen(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of all batches after planning to plain steps over the same probes in equal batches."""
    figures = {"what": workload.what, "seed": SEED}
    try:
        return figures | one_cell(workload, pairs)
    except InputError as refusal:
        return figures | {"refuses": str(refusal).partition("\n")[0]}


def _suitable(registry: str, names: list[str], build: Build) -> Iterator[Workload]:
    """The models that are small enough, each with the size of its images."""
    for name in names:
        # A registry's models raise whatever they like, at images they do not take as well.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = _size(name, build)
        if size:
            batch = BATCH if size == SMALL else OWN_BATCH
            full = f"{registry} {name}"
            yield Workload(full, partial(build, name), batch, share=batch, image=size)


def _size(name: str, build: Build) -> int:
    """Pixels of a side of the images that a model gets; 0 where it is too large."""
    if _parameters(partial(build, name)) >= LARGEST:
        return 0
    model = build(name).eval()
    own = getattr(model, "default_cfg", {"input_size": (3, 224, 224)})["input_size"][1]
    sizes = [SMALL, *([own] if own <= OWN_AT_MOST else [])]
    return next((size for size in sizes if _takes(model, size)), 0)


def _parameters(build: Callable[[], nn.Module]) -> int:
    """How many values a model has, without room for them where it can be built so."""
    try:
        with torch.device("meta"):
            model = build()
    except NotImplementedError:  # RegNets of torchvision read a value while they are built
        model = build()
    return sum(parameter.numel() for parameter in model.parameters())


def _takes(model: nn.Module, size: int) -> bool:
    """Whether a model gives logits of images of this size."""
    try:
        with torch.no_grad():
            output = model(torch.randn(2, 3, size, size))
    except Exception:
        return False
    return isinstance(output, torch.Tensor) and output.shape == (2, CLASSES)


def _torchvision(name: str) -> nn.Module:
    return torchvision.models.get_model(name, num_classes=CLASSES)
