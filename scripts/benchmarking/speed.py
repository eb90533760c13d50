"""Every way to per-example gradients on every model: time, memory, error, or why it refuses."""

from __future__ import annotations

import gc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from analyze.gradients.step.conditions import measuring
from scripts.benchmarking import memory
from scripts.benchmarking.contenders import WAYS, Found, RefusedError, plain
from scripts.benchmarking.errors import expected, in_double, worst_error
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.workloads import Workload, named

# Ours is close to the plain step, where noise shows: on a CPU the same program gives ratios that
# differ by some hundredths from process to process.
OURS_PROCESSES = {"cpu": 5, "cuda": 1}


def compare(ways: list[str], workload: Workload, device: str, pairs: int) -> dict[str, Any]:
    """Every way on one model: ratio, memory as a ratio, worst error, or why it refuses."""
    exact = expected(*workload.make(torch.device(device)))
    plain_peak = memory.peak_bytes(device, workload.name, "plain")
    found: dict[str, dict[str, Any]] = {}
    for name in ways:
        try:
            with measuring(torch.device(device)):
                found[name] = _one_way(workload, device, name, pairs, exact)
            peak = memory.peak_bytes(device, workload.name, name)
            found[name]["memory"] = peak.step / plain_peak.step if peak and plain_peak else None
        except RefusedError as refusal:
            found[name] = {"refuses": str(refusal)}
        print(f"{workload.name}, {name}: {found[name]}", flush=True)
        gc.collect()
    return {"what": workload.what, "ways": found}


def _one_way(
    workload: Workload, device: str, name: str, pairs: int, exact: dict[str, Found]
) -> dict[str, Any]:
    """Exactness in float64, time in float32."""
    there = torch.device(device)
    error = worst_error(WAYS[name](*in_double(*workload.make(there)))(), exact)
    if name == "ours":
        ratio = _ratio_of_ours(workload.name, device, pairs)
    else:
        step = WAYS[name](*workload.make(there))
        ratio = spread(each_ratio(step, plain(*workload.make(there)), pairs, there))
    return {"error": error, "ratio": ratio}


def _ratio_of_ours(workload: str, device: str, pairs: int) -> dict[str, float]:
    """Pairs of several processes, one after the other."""
    found: list[float] = []
    for _ in range(OURS_PROCESSES[device]):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found += process.submit(_pairs_of_ours, workload, device, pairs).result()
    return spread(found)


def _pairs_of_ours(workload: str, device: str, pairs: int) -> list[float]:
    chosen = named(device, workload)
    there = torch.device(device)
    with measuring(there):
        step = WAYS["ours"](*chosen.make(there))
        return each_ratio(step, plain(*chosen.make(there)), pairs, there)
