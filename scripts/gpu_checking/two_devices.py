"""Two devices of one machine: the same numbers, and nothing on the one that was not asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import analyze
from analyze.gradients.device.devices import is_cpu
from analyze.gradients.device.free_memory import held
from scripts.gpu_checking.check import Check, Finding
from tests import architectures

MODEL = "u-net"


def two_devices(check: Check) -> Iterator[Finding]:
    """One model on the first and on the second device."""
    count = 0 if is_cpu(check.device) else torch.accelerator.device_count()
    yield "devices", count
    if count < 2:
        return
    first, second = (torch.device(check.device.type, index) for index in range(2))
    model, inputs, targets = architectures.settled(
        next(a for a in architectures.ARCHITECTURES if a.name == MODEL)
    )
    probes = analyze.ProbeSet(inputs, targets)
    before, trees = held(first, "memory_allocated"), []
    for device in (second, first):
        tree = analyze.measure(model, probes, device=str(device), folds=1)
        trees.append(tree["parameters"])
        if device == second:
            yield "bytes on the first meanwhile", held(first, "max_memory_allocated") - before
    one, other = (tree.to_dataset()["gradient_sqnorm"].values for tree in trees)
    yield "same bits", bool(np.array_equal(one, other, equal_nan=True))
    yield "largest relative difference", float(np.nanmax(np.abs(one / other - 1)))
