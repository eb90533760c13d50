"""The inputs that a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.device.sending import sent
from analyze.gradients.numbers import COMPLEX, double


@dataclass(frozen=True)
class Inputs:
    """One positional tensor, or tensors by keyword.

    Args:
        tensors: By keyword; the positional one has the name ``""``.
        mean: Per channel; with ``std`` it turns uint8 images into ``(x / 255 - mean) / std``.
        std: Per channel.
    """

    tensors: Mapping[str, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def take(self, rows: Tensor) -> Inputs:
        """The examples at ``rows``, in that order."""
        taken = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return Inputs(taken, self.mean, self.std)

    def to(self, device: torch.device, dtype: torch.dtype) -> Inputs:
        """The inputs as the model takes them: images scaled, real and complex numbers in ``dtype``.

        Integers are int64; truth values stay what they are: ``~`` of an integer is another thing.
        """
        moved = {name: sent(tensor, device) for name, tensor in self.tensors.items()}
        return Inputs({name: self._decoded(tensor, dtype) for name, tensor in moved.items()})

    def of_its_own(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """The tensors that ``to`` gives, in other memory: a forward pass may write into it."""
        moved = self.to(device, dtype).tensors
        return {k: t.clone() if t is self.tensors[k] else t for k, t in moved.items()}

    def _decoded(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(dtype)
        if tensor.is_complex():
            return tensor.to(COMPLEX[dtype])
        if tensor.dtype == torch.bool:
            return tensor
        if tensor.dtype != torch.uint8 or self.mean is None or self.std is None:
            return tensor.long()
        per_channel = (-1,) + (1,) * (tensor.dim() - 2)  # [N, C, *positions]
        # In float64, or every input would be off by a rounding and so now and then a ReLU.
        exact = double(tensor)
        mean, std = (sent(v, exact.device).view(per_channel) for v in (self.mean, self.std))
        return ((exact / 255 - mean) / std).to(tensor.device, dtype)
