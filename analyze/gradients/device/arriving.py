"""Numbers on their way from a device to the host, all in one copy.

Whoever reads a number of a GPU waits until all is done that the GPU was given before. So what the
host wants of a batch is sent together, as soon as it is enqueued, and read when the next batch is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import has_float64, moves_by_itself


class Arriving:
    """Values of several tensors as float64 on the host; ``read`` waits for them.

    Real numbers, integers and truth values. Cost: one copy, and one wait in ``read``; on a CPU
    neither: what is float64 there is not copied.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        tensors = [tensor.detach() for tensor in tensors]
        values = [(t if has_float64(t.device) else t.cpu()).double() for t in tensors]
        self._shapes = [value.shape for value in values]
        self._event: torch.Event | None = None
        devices = {value.device for value in values}
        if len(devices) != 1 or not moves_by_itself(device := devices.pop()):
            self._values = values
            return
        flat = torch.cat([value.reshape(-1) for value in values])
        host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        host.copy_(flat, non_blocking=True)
        self._event = torch.Event(device)
        self._event.record(torch.accelerator.current_stream(device))
        self._values = [host]

    def read(self) -> list[np.ndarray]:
        """The values in the shapes of the tensors, once they are there."""
        if self._event is None:
            return [value.cpu().numpy() for value in self._values]
        self._event.synchronize()
        flat, sizes = self._values[0].numpy(), [shape.numel() for shape in self._shapes]
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
