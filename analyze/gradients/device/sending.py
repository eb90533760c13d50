"""To a device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor

from analyze.gradients.device.devices import is_cpu, moves_by_itself, pinned


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device, of another dtype if one is given.

    A GPU fetches it by itself, before what it is told to do next. Whoever copies from memory that
    is not pinned waits until the GPU has done all that it was told before.

    Cost: on a GPU the tensor once more in pinned memory, until it has arrived.
    """
    if is_cpu(tensor.device) and moves_by_itself(device):
        tensor = pinned(tensor).to(device, non_blocking=True)
    return tensor.to(device=device, dtype=dtype or tensor.dtype)
