"""Where to compute, and how many examples at a time fit there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analyze.errors import InputError
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers.float64 import device_with_float64


@dataclass(frozen=True)
class Limits:
    """How much is held at a time, whatever there is.

    Args:
        activations: Bytes of a batch.
        sums: Bytes, of all parts of a batch.
        batch: Examples beyond which a batch gets no faster.
    """

    activations: int
    sums: int
    batch: int


LIMITS = {
    "cpu": Limits(activations=512 << 20, sums=256 << 20, batch=128),
    "cuda": Limits(activations=8 << 30, sums=2 << 30, batch=1024),
    "mps": Limits(activations=2 << 30, sums=512 << 20, batch=256),
}
OF_A_THREAD = 128 << 20  # bytes; smaller batches get slow, however many threads there are


def resolve_device(name: str, dtype: torch.dtype) -> torch.device:
    """The device a name means; ``auto`` is CUDA, else MPS, else the CPU.

    Args:
        name: As torch has it, or ``auto``.
        dtype: Which the device must have.

    Raises:
        InputError: there is no such device here, or it has no such numbers.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name == "auto":
        found = torch.device(next((d for d in ("cuda", "mps") if d in available), "cpu"))
        return device_with_float64(found) if dtype == torch.float64 else found
    if name not in available:
        raise InputError(
            "there is no such device",
            found=f"device {name!r}",
            expected=f"auto, or one of {', '.join(available)} on this machine",
            fix="--device auto",
        )
    device = torch.device(name)
    if dtype == torch.float64 and device != device_with_float64(device):
        raise InputError(
            "the device has no float64",
            found=f"device {name!r} with precision 'float64'",
            expected="a device that computes in float64; sums and norms are float64 in any case",
            fix="--precision float32, or --device cpu",
        )
    return device


def choose_batch_size(replica: Replica, example: Inputs, threads: int = 1) -> int:
    """The number of examples whose activations fit into the device's share of memory.

    Args:
        replica: The model.
        example: A batch of one; its forward pass shows what autograd keeps.
        threads: How many have a batch at a time. Their batches together hold what one may hold;
            with more than four threads, ``OF_A_THREAD`` bytes each.
    """
    limits = LIMITS[replica.device.type]
    room = max(limits.activations // threads, OF_A_THREAD)
    fits = room // activation_bytes(replica, example)
    return max(1, min(limits.batch, fits))


def largest_batch_bytes(device: torch.device) -> int:
    """What a batch may take at most: activations and their gradients, and its parts' sums."""
    limits = LIMITS[device.type]
    return 2 * limits.activations + limits.sums


def most_parts(device: torch.device, values: int) -> int:
    """Parts that a batch may have, for sums of so many float32 values each."""
    return max(1, LIMITS[device.type].sums // max(1, 4 * values))


def activation_bytes(replica: Replica, example: Inputs) -> int:
    """Bytes that autograd keeps for the backward pass of a batch, at least 1.

    All that is computed counts where ``torch.func`` differentiates inside of the model: torch does
    not tell then what is kept.
    """
    try:
        return _kept_bytes(replica, example)
    except RuntimeError:
        with _Computed() as computed:
            replica(example)
        return max(1, computed.bytes)


class _Computed(TorchDispatchMode):
    """Adds up the size of every tensor that a call gives."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return found


def _kept_bytes(replica: Replica, example: Inputs) -> int:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        replica(example)
    weights = {p.data_ptr() for p in replica.model.parameters()}
    return max(1, sum(size for pointer, size in kept.items() if pointer not in weights))
