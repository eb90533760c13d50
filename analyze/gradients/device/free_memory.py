"""The memory of an accelerator: what is free of it, and what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def free_memory(device: torch.device) -> int | None:
    """Bytes of an accelerator that this process could still take; None where nobody tells.

    What torch holds in its cache for tensors to come is free, though the driver calls it taken.
    """
    module = torch.get_device_module(device)
    info = _told(getattr(torch.accelerator, "get_memory_info", None), device)
    info = info or _told(getattr(module, "mem_get_info", None), device)
    if info is not None:
        cached = held(device, "memory_reserved") - held(device, "memory_allocated")
        return int(info[0]) + max(0, cached)
    most = _told(getattr(module, "recommended_max_memory", None))  # memory that is the CPU's, too
    return None if most is None else max(0, most - (_told(module.current_allocated_memory) or 0))


def held(device: torch.device, what: str) -> int:
    """Bytes by a function of ``torch.accelerator``, as ``memory_allocated``; 0 if unknown."""
    return int(_told(getattr(torch.accelerator, what), device) or 0)


def _told(ask: Callable[..., Any] | None, *arguments: object) -> Any:
    """What a backend answers, or None: each has other ones of these functions."""
    try:
        return None if ask is None else ask(*arguments)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return None
