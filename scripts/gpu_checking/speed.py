"""Seconds and memory of a batch: plain steps with and without TF32, ours, and other tools."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from analyze.errors import described
from analyze.gradients.device.devices import is_cpu
from analyze.gradients.device.free_memory import held
from analyze.gradients.device.timing import once
from analyze.gradients.step.conditions import measuring
from analyze.gradients.step.full_precision import full_precision
from scripts.benchmarking.contenders import WAYS, Way, plain
from scripts.benchmarking.workloads import Workload
from scripts.gpu_checking.check import Check, Finding
from scripts.gpu_checking.workloads import workloads

ROUNDS, WARM = 7, 2
PACKAGES = {"BackPACK": "backpack", "Opacus, hooks": "opacus", "Opacus, ghost": "opacus"}
SLOW = ("one at a time",)  # on a GPU: each example fills it as little as the next one


def speed(check: Check) -> Iterator[Finding]:
    """Every way on every model: median seconds, and as a ratio to the plain step's."""
    for workload in workloads(check):
        yield workload.name, {"what": workload.what} | _of_a_model(workload, check)


def _of_a_model(workload: Workload, check: Check) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (way, conditions) in _ways(check.device).items():
        if check.left < 0:
            break
        try:
            with conditions:
                found[name] = _timed(way, workload, check)
        except Exception as error:  # other tools raise what they like
            found[name] = {"fails": described(error)[:300]}
        gc.collect()
    base = found.get("plain", {}).get("seconds")
    for figures in found.values():
        if base and "seconds" in figures:
            figures["ratio"] = figures["seconds"] / base
    return found


def _ways(device: torch.device) -> dict[str, tuple[Way, AbstractContextManager[None]]]:
    ways: dict[str, tuple[Way, AbstractContextManager[None]]] = {
        "plain": (plain, measuring(device)),
        "plain, torch's settings but no TF32": (plain, full_precision()),
        "plain, TF32": (plain, _tf32()),
    }
    for name, way in WAYS.items():
        if name not in SLOW and (name not in PACKAGES or find_spec(PACKAGES[name])):
            ways[name] = way, measuring(device)
    return ways


@contextmanager
def _tf32() -> Iterator[None]:
    """TF32 for products and convolutions; the process ends with the part, and sets nothing back."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield


def _timed(way: Way, workload: Workload, check: Check) -> dict[str, Any]:
    step = way(*workload.make(check.device))
    for _ in range(WARM):
        step()
    before = reset_peak(check.device)
    seconds = [once(step, check.device)]
    while len(seconds) < ROUNDS and check.left > 0:
        seconds.append(once(step, check.device))
    peak = held(check.device, "max_memory_allocated") if before is not None else None
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "rounds": len(seconds),
        "bytes before": before,
        "bytes at the peak": peak,
    }


def reset_peak(device: torch.device) -> int | None:
    """Bytes that are held now, from which the peak is counted; None where nobody tells."""
    reset: Callable[[torch.device], None] = torch.accelerator.reset_peak_memory_stats
    try:
        if is_cpu(device):
            return None
        reset(device)
    except RuntimeError:
        return None
    return held(device, "memory_allocated")
