"""The device of a measurement, and how many examples at a time fit there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from analyze.errors import InputError
from analyze.gradients.numbers import device_with_float64


@dataclass(frozen=True)
class _Limits:
    """How much is held at a time, whatever memory there is."""

    activations: int  # bytes of a batch
    sums: int  # bytes of all segments of a batch
    batch: int  # examples beyond which a batch gets little faster
    few: int  # bytes of activations up to which it does, as long as it has no more than ``many``
    many: int


LIMITS = {
    "cpu": _Limits(activations=512 << 20, sums=256 << 20, batch=128, few=64 << 20, many=512),
    "cuda": _Limits(activations=8 << 30, sums=2 << 30, batch=1024, few=0, many=1024),
    "mps": _Limits(activations=2 << 30, sums=512 << 20, batch=256, few=0, many=256),
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


def largest_batch_size(device: torch.device, kept: int, threads: int = 1) -> int:
    """Examples in a batch: as many as fit, up to a number beyond which they get little faster.

    Autograd keeps ``kept`` bytes for each. The time of an example falls with the size of its batch,
    as operations are started and weights are read once for all of them; from some size on it falls
    no more, unless the examples are so small that starting the operations is most of it.
    """
    limits = LIMITS[device.type]
    enough = min(limits.many, max(limits.batch, limits.few // kept))
    return min(enough, room_for(device, kept, threads))


def room_for(device: torch.device, kept: int, threads: int = 1) -> int:
    """How many examples' activations fit, one at least.

    The batches of several threads together hold what one may hold; with more than four,
    ``OF_A_THREAD`` bytes each.
    """
    room = max(LIMITS[device.type].activations // threads, OF_A_THREAD)
    return max(1, room // kept)


def equal_batches(examples: int, largest: int, threads: int = 1) -> int:
    """The size of batches of equal length, no larger than ``largest``, as many for each thread."""
    turns = math.ceil(examples / (threads * largest))
    return math.ceil(examples / (threads * turns))


def largest_batch_bytes(device: torch.device) -> int:
    """Bytes of a batch at most: activations and their gradients, and its segments' sums."""
    limits = LIMITS[device.type]
    return 2 * limits.activations + limits.sums


def most_segments(device: torch.device, values: int) -> int:
    """Segments that a batch may have, for sums of so many float32 values each."""
    return max(1, LIMITS[device.type].sums // max(1, 4 * values))


def is_cpu(device: torch.device) -> bool:
    """Whether it is the host's own processor."""
    return device.type == "cpu"


@cache
def moves_by_itself(device: torch.device) -> bool:
    """Whether it computes while something is moved to it: it has streams, and pins memory."""
    if is_cpu(device):
        return False
    try:
        torch.Stream(device)
        torch.empty(1).pin_memory()
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    return True
