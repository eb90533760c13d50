"""What the figures were measured on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from analyze.gradients.device.devices import maker_name

PACKAGES = ("torch", "torchvision", "timm", "backpack-for-pytorch", "opacus")


def description(device: torch.device) -> dict[str, Any]:
    """Processor, threads, versions, day."""
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "device": maker_name(device) or _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def told(machine: dict[str, Any]) -> str:
    """The same for a reader, below a table."""
    return (
        f"*{machine['device']}, {machine['threads']} threads, torch {machine['versions']['torch']}*"
    )


def _processor() -> str:
    """Name and instructions: a cloud gives processors of several generations one name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} with {torch.backends.cpu.get_cpu_capability()}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
