"""Whether two measurements of one model give the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import analyze
from scripts.gpu_checking.check import Check, Finding
from tests import architectures

MODELS = ["vision-transformer", "resnet18", "gpt2", "u-net", "lstm-classifier", "swin-v2"]
COPIES = 64  # of the examples, with other noise each: batches that fill more than one block
QUICK = 1  # models of a quick check, with fewer copies


def repeats(check: Check) -> Iterator[Finding]:
    """For each model: the same bits, or how far apart; and what the program itself says of it."""
    known = {a.name: a for a in architectures.ARCHITECTURES}
    for name in MODELS[:QUICK] if check.quick else MODELS:
        if check.left > 0:
            yield name, _of_a_model(known[name], check)


def _of_a_model(architecture: Any, check: Check) -> dict[str, Any]:
    model, inputs, targets = architectures.settled(architecture)
    copies = 2 if check.quick else COPIES
    many = torch.cat([inputs] * copies)
    if many.is_floating_point():
        many = many + 0.01 * torch.randn_like(many)
    probes = analyze.ProbeSet(many, torch.cat([targets] * copies))
    trees = [
        analyze.measure(model, probes, device=str(check.device), batch_norm="saved", folds=2)
        for _ in range(2)
    ]
    first, second = (
        np.concatenate([tree["parameters"].to_dataset()[name].values.ravel()
                        for name in ("gradient_gram", "gradient_sqnorm")])
        for tree in trees
    )  # fmt: skip
    scale = np.maximum(np.abs(first), np.nanmax(np.abs(first)) * 1e-12)
    return {
        "examples": len(many),
        "same bits": bool(np.array_equal(first, second, equal_nan=True)),
        "largest relative difference": float(np.nanmax(np.abs(first - second) / scale)),
        "repeatable": [json.loads(tree.attrs["provenance"])["repeatable"] for tree in trees],
        "warnings": json.loads(trees[0].attrs["provenance"])["warnings"],
    }
