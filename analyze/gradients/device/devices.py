"""The device of a measurement, and how many examples at a time fit there."""

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
from analyze.gradients.numbers import device_with_float64


@dataclass(frozen=True)
class _Limits:
    """How much is held at a time, whatever memory there is."""

    activations: int  # bytes of a batch
    sums: int  # bytes of all segments of a batch
    batch: int  # examples beyond which a batch gets no faster


LIMITS = {
    "cpu": _Limits(activations=512 << 20, sums=256 << 20, batch=128),
    "cuda": _Limits(activations=8 << 30, sums=2 << 30, batch=1024),
    "mps": _Limits(activations=2 << 30, sums=512 << 20, batch=256),
}
OF_A_THREAD = 128 << 20  # bytes; smaller batches get slow, however many threads there are


def resolve_device(name: str, dtype: torch.dtype) -> torch.device:
    """The device of a name in torch, or of ``auto``: CUDA, else MPS, else the CPU.

    Raises:
        InputError: this machine has no such device, or the device has no such dtype.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name == "auto":
        device = torch.device(next((d for d in ("cuda", "mps") if d in available), "cpu"))
        return device_with_float64(device) if dtype == torch.float64 else device
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

    The forward pass of a batch of one ``example`` shows what autograd keeps. The batches of several
    threads together hold what one may hold; with more than four, ``OF_A_THREAD`` bytes each.
    """
    limits = LIMITS[replica.device.type]
    room = max(limits.activations // threads, OF_A_THREAD)
    fits = room // activation_bytes(replica, example)
    return max(1, min(limits.batch, fits))


def largest_batch_bytes(device: torch.device) -> int:
    """Bytes of a batch at most: activations and their gradients, and its segments' sums."""
    limits = LIMITS[device.type]
    return 2 * limits.activations + limits.sums


def most_segments(device: torch.device, values: int) -> int:
    """Segments that a batch may have, for sums of so many float32 values each."""
    return max(1, LIMITS[device.type].sums // max(1, 4 * values))


def activation_bytes(replica: Replica, example: Inputs) -> int:
    """Bytes that autograd keeps for the backward pass of a batch, at least 1.

    Where ``torch.func`` differentiates inside of the model, torch does not tell what is kept: all
    that is computed counts.
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
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


def _kept_bytes(replica: Replica, example: Inputs) -> int:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        replica(example)
    weights = {p.data_ptr() for p in replica.model.parameters()}
    return max(1, sum(size for pointer, size in kept.items() if pointer not in weights))
