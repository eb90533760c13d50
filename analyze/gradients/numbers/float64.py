"""Float64, which every device has but MPS."""

from __future__ import annotations

import torch
from torch import Tensor

LACKING = "mps"


def device_with_float64(device: torch.device) -> torch.device:
    """The device, or the CPU where it has no float64."""
    return torch.device("cpu") if device.type == LACKING else device


def where_it_is(values: Tensor) -> Tensor:
    """The values on a device that has float64."""
    return values.cpu() if values.device.type == LACKING else values


def double(values: Tensor) -> Tensor:
    """The values in float64, on a device that has it."""
    return where_it_is(values).double()


def widest(values: Tensor) -> Tensor:
    """The values in float64 where their device has it, else as they are."""
    return values if values.device.type == LACKING else values.double()
