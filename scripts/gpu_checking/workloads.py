"""The models that are timed, and smaller ones for a quick check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from analyze.errors import out_of_memory
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.workloads import CLASSES, WORKLOADS, Transformer, Workload
from scripts.gpu_checking.check import Check


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, CLASSES),
    )  # fmt: skip


TINY = [
    Workload("convolutions, tiny", _convolutions, 4, image=16),
    Workload("Transformer, tiny", lambda: Transformer(64, 32, 2, 2, 8), 4, tokens=8, vocabulary=64),
]  # fmt: skip


def workloads(check: Check) -> Iterator[Workload]:
    """Those that there is time for, each with as large a batch as a plain step has room for."""
    for workload in TINY if check.quick else WORKLOADS["cuda"]:
        if check.left > 0:
            yield _that_fits(workload, check.device)


def _that_fits(workload: Workload, device: torch.device) -> Workload:
    while True:
        try:
            plain(*workload.make(device))()
            return workload
        except RuntimeError as error:
            if not out_of_memory(error) or workload.batch == 1:
                raise
        workload = replace(workload, batch=workload.batch // 2)
        torch.accelerator.empty_cache()
