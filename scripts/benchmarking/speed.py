"""Every way to per-example gradients on every model: time, memory, error, or why it refuses."""

from __future__ import annotations

import gc
from typing import Any

import torch

from analyze.gradients.conditions import measuring
from scripts.benchmarking import memory
from scripts.benchmarking.contenders import WAYS, Found, RefusedError, plain
from scripts.benchmarking.errors import expected, in_double, worst_error
from scripts.benchmarking.paired import ratios
from scripts.benchmarking.workloads import Workload

OURS_TIMES = 3  # as many pairs: it is close to the plain step, where noise shows


def compare(workload: Workload, device: str, ways: list[str], pairs: int) -> dict[str, Any]:
    """Every way on one model: ratio, memory as a ratio, worst error, or why it refuses."""
    exact = expected(*workload.make(torch.device(device)))
    plain_peak = memory.peak_bytes(device, workload.name, "plain")
    found: dict[str, dict[str, Any]] = {}
    for name in ways:
        try:
            with measuring():
                more = OURS_TIMES if name == "ours" else 1
                found[name] = _one_way(workload, torch.device(device), name, pairs * more, exact)
            peak = memory.peak_bytes(device, workload.name, name)
            found[name]["memory"] = peak.step / plain_peak.step if peak and plain_peak else None
        except RefusedError as refusal:
            found[name] = {"refuses": str(refusal)}
        print(f"{workload.name}, {name}: {found[name]}", flush=True)
        gc.collect()
    return {"what": workload.what, "ways": found}


def _one_way(
    workload: Workload, device: torch.device, name: str, pairs: int, exact: dict[str, Found]
) -> dict[str, Any]:
    """Exactness in float64, time in float32."""
    error = worst_error(WAYS[name](*in_double(*workload.make(device)))(), exact)
    step = WAYS[name](*workload.make(device))
    return {"error": error, "ratio": ratios(step, plain(*workload.make(device)), pairs)}
