"""The machine: its devices, versions, and settings that decide which kernels run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch

from analyze.gradients.device.devices import (
    has_float64,
    is_cpu,
    largest_batch_bytes,
    maker_name,
    moving_stream,
    names,
)
from analyze.gradients.device.free_memory import free_memory
from scripts.benchmarking.machine import description
from scripts.gpu_checking.check import Check, Finding

VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE",
             "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
             "PYTORCH_MPS_FAST_MATH")  # fmt: skip


def machine(check: Check) -> Iterator[Finding]:
    """Names, memory, versions, and what the program takes the device for."""
    yield "machine", description(check.device)
    yield "devices", {name: _device(torch.device(name)) for name in names() if ":" in name}
    yield "torch", {"cuda": torch.version.cuda, "hip": torch.version.hip,
                    "cudnn": torch.backends.cudnn.version()}  # fmt: skip
    yield "environment", {name: os.environ[name] for name in VARIABLES if name in os.environ}
    yield (
        "taken for",
        {
            "device": str(check.device),
            "float64": has_float64(check.device),
            "moves by itself": moving_stream(check.device) is not None,
            "bytes of a batch at most": largest_batch_bytes(check.device),
        },
    )


def _device(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": maker_name(device)}
    facts["free bytes"] = None if is_cpu(device) else free_memory(device)
    properties = getattr(torch.get_device_module(device), "get_device_properties", None)
    if properties is not None:
        facts["properties"] = str(properties(device))
    return facts
