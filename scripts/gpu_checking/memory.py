"""The memory that a measurement holds, against what it was estimated to hold."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from analyze.gradients.device.devices import HOST
from analyze.gradients.device.free_memory import free_memory, held
from analyze.gradients.engine import REPLICAS
from analyze.gradients.measurement import Settings
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.workloads import Workload
from scripts.gpu_checking.check import Check, Finding
from scripts.gpu_checking.speed import reset_peak
from scripts.gpu_checking.workloads import workloads

TIMES = 4  # as many probes as this times the workload's batch: more than one batch, mostly


def memory(check: Check) -> Iterator[Finding]:
    """For each model: the batch that the engine chooses, its estimate, and the peak."""
    for workload in workloads(check):
        yield workload.name, _of_a_model(workload, check)


def _of_a_model(workload: Workload, check: Check) -> dict[str, Any]:
    many = replace(workload, batch=TIMES * workload.batch)
    model, inputs, targets = many.make(HOST)
    settings = Settings(str(check.device), batch_norm="saved", folds=2)
    engine = prepared(model, inputs, targets, settings)
    before = reset_peak(check.device)
    measurement = engine.measure(copy.deepcopy(model))
    values = sum(parameter.numel() for parameter in model.parameters())
    kept, size = engine.current.cost.kept, engine.batch_size
    held_sums = 4 * values * (len(engine.cells) + REPLICAS)
    return {
        "probes": many.batch,
        "batch": size,
        "bytes kept for an example": kept,
        "estimated bytes": 2 * kept * size + held_sums,
        "bytes before": before,
        "bytes at the peak": None if before is None else held(check.device, "max_memory_allocated"),
        "bytes reserved": held(check.device, "max_memory_reserved"),
        "bytes free afterwards": None if before is None else free_memory(check.device),
        "notes": list(measurement.notes),
    }
