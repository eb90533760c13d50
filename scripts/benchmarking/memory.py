"""Peak memory of a step of one way, and what is kept between steps; in a process of its own."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from scripts.benchmarking.workloads import Workload, named

# glibc gives freed memory back at once, so that what a process holds is what it uses.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
WARM = 2  # steps before the one that is measured
SHARED = "shared"  # a checkpoint of one cell, by all threads together
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak(NamedTuple):
    """Bytes.

    Args:
        step: The most that a step has beyond what the process holds before it and after it.
        kept: What the first steps left: kernels, their code, plans; model and batch not counted.
    """

    step: int
    kept: int


def peak_bytes(device: str, workload: str, way: str) -> Peak | None:
    """Of a step once plans are made; None where the system does not tell or it fails."""
    if device == "cuda":
        torch.cuda.empty_cache()  # the other process needs the room that this one has at hand
    command = [sys.executable, "-m", "scripts.benchmarking.memory", device, workload, way]
    environment = os.environ | RETURNED
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"peak (\d+) kept (-?\d+)", done.stdout)
    return Peak(*map(int, found.groups())) if found else None


def beside_plain(device: str, workload: Workload) -> dict[str, Any]:
    """Peaks of the plain step and of ours, None where not known, and one gradient sum, in bytes."""
    model, _, _ = workload.make(torch.device("cpu"))
    ways = ("plain", "ours", SHARED) if device == "cpu" else ("plain", "ours")
    peaks = {way: peak_bytes(device, workload.name, way) for way in ways}
    found = {way: None if peak is None else peak._asdict() for way, peak in peaks.items()}
    return found | {"sums": 4 * sum(parameter.numel() for parameter in model.parameters())}


def measure(device: str, workload: str, way: str) -> Peak | None:
    """In this process; see ``peak_bytes``."""
    from analyze.gradients.step.conditions import measuring

    with measuring(torch.device(device)):
        before, step = _begun(device, named(device, workload), way)
        for _ in range(WARM):
            step()
        gc.collect()
        held = held_bytes(device)
        if not reset_peak(device):
            return None
        step()
    return Peak(peak_bytes_so_far(device) - held, held - before)


def _begun(device: str, workload: Workload, way: str) -> tuple[int, Callable[[], object]]:
    """Bytes that are held with model and batch, and the step; of threads it is all batches."""
    from scripts.benchmarking.contenders import WAYS, plain
    from scripts.benchmarking.one_cell import accumulating

    if way == SHARED:
        _, work = accumulating(workload)
        return held_bytes(device), work
    model, inputs, targets = workload.make(torch.device(device))
    before = held_bytes(device)
    return before, (plain if way == "plain" else WAYS[way])(model, inputs, targets)


def held_bytes(device: str) -> int:
    """What this process has at the moment."""
    return torch.cuda.memory_allocated() if device == "cuda" else _status("VmRSS")


def peak_bytes_so_far(device: str) -> int:
    """The most that it had since ``reset_peak``."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def reset_peak(device: str) -> bool:
    """Forget earlier peaks; whether that is possible here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    """A line of the kernel's account of this process, in bytes; 0 where there is none."""
    text = STATUS.read_text() if STATUS.exists() else ""
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    peak = measure(*sys.argv[1:])
    if peak is not None:
        print("peak", peak.step, "kept", peak.kept)
