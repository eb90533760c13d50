"""One batch under torch's profiler: launches, what the host waits for, and shares of the time."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, supported_activities

from analyze.gradients.device.devices import synchronize
from analyze.gradients.step.conditions import measuring
from scripts.benchmarking.contenders import WAYS, plain
from scripts.gpu_checking.check import Check, Finding
from scripts.gpu_checking.workloads import workloads

WARM = 3
LARGEST = 20  # kernels, by their time
EVENTS = {  # of the runtime's calls, by parts of their names in CUDA, HIP and Level Zero
    "launches": re.compile(r"LaunchKernel|launch_kernel|AppendLaunch", re.IGNORECASE),
    "waits": re.compile(r"(Stream|Device|Event)Synchronize", re.IGNORECASE),
    "copies": re.compile(r"^(cuda|hip)Memcpy|AppendMemoryCopy", re.IGNORECASE),
}
ASKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::_to_copy")


def profiles(check: Check) -> Iterator[Finding]:
    """For each model: a batch of ours, and a plain step."""
    for workload in workloads(check):
        for name, way in (("ours", WAYS["ours"]), ("plain", plain)):
            with measuring(check.device):
                step = way(*workload.make(check.device))
                for _ in range(WARM):
                    step()
                found = _profiled(step, check.device)
                found["waits by place"] = _waits_by_place(step, check.device)
            yield f"{workload.name}, {name}", {"what": workload.what} | found


def _profiled(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    synchronize(device)
    with profile(activities=supported_activities() or [ProfilerActivity.CPU]) as profiler:
        step()
        synchronize(device)
    names = Counter(event.name for event in profiler.events())
    averages = profiler.key_averages()
    on_device = sum(row.self_device_time_total for row in averages)
    times = {
        row.key: row.self_device_time_total if on_device else row.self_cpu_time_total
        for row in averages
    }
    whole = sum(times.values()) or 1.0
    largest = sorted(times, key=times.__getitem__, reverse=True)[:LARGEST]
    counted = {
        what: sum(count for name, count in names.items() if pattern.search(name))
        for what, pattern in EVENTS.items()
    }
    return counted | {
        "operations": sum(count for name, count in names.items() if name.startswith("aten::")),
        "asking": {name: names[name] for name in ASKING if names[name]},
        "microseconds": whole,
        "of": "device" if on_device else "processor",
        "shares": {name: times[name] / whole for name in largest},
    }


def _waits_by_place(step: Callable[[], object], device: torch.device) -> dict[str, int] | None:
    """How often the host waits for the device, by file and line; None where torch cannot tell."""
    tell = getattr(torch.get_device_module(device), "set_sync_debug_mode", None)
    if tell is None or not torch.get_device_module(device).is_available():
        return None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        tell("warn")
        try:
            step()
        finally:
            tell("default")
    places = (f"{w.filename.rpartition('site-packages/')[2]}:{w.lineno}" for w in heard)
    return dict(Counter(place.partition("scripts/")[2] or place for place in places))
