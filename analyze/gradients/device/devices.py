"""The devices of this machine: their names and kinds, and how much each takes at a time.

The only module that knows devices by their names in torch. What runs on CUDA runs on whatever else
``torch.accelerator`` knows, by the numbers of a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.device.free_memory import free_memory


@dataclass(frozen=True)
class Kind:
    """A kind of device, and what is best taken there at a time, whatever memory there is."""

    name: str  # by which costs are known, and torch knows a device of the kind
    activations: int  # bytes of a batch; where free memory is known, a share of that instead
    sums: int  # bytes of all segments of a batch, likewise
    batch: int  # examples beyond which a batch gets little faster
    few: int  # bytes of activations up to which it does, as long as it has no more than ``many``
    many: int
    chunk: int  # bytes of per-example gradients made at a time: in a core's cache, or many
    entries: int  # of the output at a time: in a core's cache, or as many as fill a GPU


CPU = Kind(
    "cpu", activations=512 << 20, sums=256 << 20, batch=128, few=64 << 20, many=512,
    chunk=4 << 20, entries=1 << 18,
)  # fmt: skip
GPU = Kind(
    "cuda", activations=2 << 30, sums=512 << 20, batch=1024, few=0, many=1024,
    chunk=256 << 20, entries=1 << 26,
)  # fmt: skip
MPS = Kind(
    "mps", activations=2 << 30, sums=512 << 20, batch=256, few=0, many=256,
    chunk=64 << 20, entries=1 << 24,
)  # fmt: skip
KINDS = {kind.name: kind for kind in (CPU, GPU, MPS)}  # those of all other names are GPUs
HOST = torch.device(CPU.name)
WITHOUT_FLOAT64 = (MPS.name,)  # of which it is known; others are asked
AUTOCAST = ("cpu", "cuda", "mps", "xpu")  # what torch.autocast knows besides an accelerator
# Of the memory that is free before the first measurement. Activations and their gradients are two
# of these shares; the model, the cells' sums and the work on a chunk are beside them.
SHARE_OF_ACTIVATIONS, SHARE_OF_SUMS, SHARE_OF_A_CHUNK = 4, 16, 64
OF_A_THREAD = 128 << 20  # bytes; smaller batches get slow, however many threads there are


def kind_of(device: torch.device) -> Kind:
    """What kind of device it is."""
    return KINDS.get(device.type, GPU)


def is_cpu(device: torch.device) -> bool:
    """Whether the processor computes, in the host's memory."""
    return device.type == CPU.name


def on_cpu(tensor: Tensor) -> bool:
    """Whether the tensor is in the host's memory."""
    return tensor.device.type == CPU.name


def accelerator() -> str | None:
    """The accelerator of this machine by its name in torch; None where there is none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else found.type


def names() -> list[str]:
    """All devices of this machine by their names in torch."""
    name = accelerator()
    if name is None:
        return [CPU.name]
    return [CPU.name, name, *(f"{name}:{k}" for k in range(torch.accelerator.device_count()))]


def kinds_of_autocast() -> tuple[str, ...]:
    """The kinds of device for which autocast may be on."""
    name = accelerator_of_this_torch()
    return AUTOCAST if name is None or name in AUTOCAST else (*AUTOCAST, name)


def accelerator_of_this_torch() -> str | None:
    """The accelerator that this torch was built for, or that was added to it, there or not."""
    found = torch.accelerator.current_accelerator()
    return None if found is None else found.type


def check_device(name: str) -> None:
    """Refuse a name that is neither ``auto`` nor that of a device of this machine.

    Raises:
        InputError: it is not.
    """
    available = names()
    if name != "auto" and name not in available:
        raise InputError(
            "there is no such device",
            found=f"device {name!r}",
            expected=f"auto, or one of {', '.join(available)} on this machine",
            fix="--device auto",
        )


def resolve_device(name: str, dtype: torch.dtype) -> torch.device:
    """The device of a name in torch, or of ``auto``: an accelerator, else the CPU.

    It has a number: a name without one means the current device, which each thread has its own of.

    Raises:
        InputError: this machine has no such device, or the device has no such dtype.
    """
    check_device(name)
    if name == "auto":
        available = names()
        device = _numbered(available[min(1, len(available) - 1)])
        return device_with_float64(device) if dtype == torch.float64 else device
    device = _numbered(name)
    if dtype == torch.float64 and not has_float64(device):
        raise InputError(
            "the device has no float64",
            found=f"device {name!r} with precision 'float64'",
            expected="a device that computes in float64; sums and norms are float64 in any case",
            fix="--precision float32, or --device cpu",
        )
    return device


def all_of(name: str, device: torch.device) -> list[torch.device]:
    """The devices that a name means, of which ``device`` is one: all of a kind without a number."""
    if is_cpu(device) or ":" in name:
        return [device]
    return [torch.device(device.type, k) for k in range(torch.accelerator.device_count())]


def _numbered(name: str) -> torch.device:
    device = torch.device(name)
    if is_cpu(device) or device.index is not None:
        return device
    return torch.device(device.type, torch.accelerator.current_device_index() if _several() else 0)


def _several() -> bool:
    return torch.accelerator.device_count() > 1


def maker_name(device: torch.device) -> str | None:
    """What its maker calls an accelerator, or its kind if nobody tells; None for the processor."""
    if is_cpu(device):
        return None
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if named is None else str(named(device))


def random_states_of_accelerators() -> list[Tensor]:
    """What the next random numbers of each accelerator follow from; none where none is in use."""
    name = accelerator()
    module = None if name is None else torch.get_device_module(name)
    if module is None or not getattr(module, "is_initialized", lambda: True)():
        return []
    if name == MPS.name:  # there is one, and it is not asked by its number
        return [module.get_rng_state()]
    return [module.get_rng_state(k) for k in range(torch.accelerator.device_count())]


@cache
def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64; where it is not known, it is tried."""
    if device.type in KINDS:
        return device.type not in WITHOUT_FLOAT64
    try:
        one = torch.ones(1, dtype=torch.float64, device=device)
        return (one + one).dtype == torch.float64
    except (RuntimeError, TypeError):
        return False


def device_with_float64(device: torch.device) -> torch.device:
    """The device, or the CPU where it has no float64."""
    return device if has_float64(device) else HOST


@cache
def moving_stream(device: torch.device) -> torch.Stream | None:
    """The stream that moves things to a device while it computes; None where there are none.

    One for each device: memory that was allocated for a stream is used again for that one alone.
    """
    if device.type in (CPU.name, MPS.name) or device.type != accelerator_of_this_torch():
        return None
    try:
        here, there = torch.accelerator.current_stream(device), torch.Stream(device)
        torch.empty(1, device=device).record_stream(here)
        return there
    except (RuntimeError, NotImplementedError):
        return None


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory from which a device fetches it by itself, where that is possible."""
    return tensor.pin_memory() if _pins_memory() else tensor


@cache
def _pins_memory() -> bool:
    try:
        return torch.empty(1).pin_memory().is_pinned()
    except (RuntimeError, NotImplementedError):
        return False


@cache
def moves_by_itself(device: torch.device) -> bool:
    """Whether a device computes while something is moved to it or from it."""
    return moving_stream(device) is not None and _pins_memory()


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    """The block's current device, on which kernels that are no part of torch run, is this one."""
    alone = is_cpu(device) or not _several()
    with nullcontext() if alone else torch.accelerator.device_index(device.index):
        yield


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; no other one is waited for."""
    if is_cpu(device):
        return
    try:
        torch.accelerator.synchronize(device)
    except RuntimeError:  # a backend that has this by itself alone, or what went wrong before
        torch.get_device_module(device).synchronize()


def largest_batch_size(device: torch.device, kept: int, threads: int = 1) -> int:
    """Examples in a batch: as many as fit, up to a number beyond which they get little faster.

    Autograd keeps ``kept`` bytes for each. The time of an example falls with the size of its batch,
    as operations are started and weights are read once for all of them; from some size on it falls
    no more, unless the examples are so small that starting the operations is most of it.
    """
    kind = kind_of(device)
    enough = min(kind.many, max(kind.batch, kind.few // kept))
    return min(enough, room_for(device, kept, threads))


def room_for(device: torch.device, kept: int, threads: int = 1) -> int:
    """How many examples' activations fit, one at least.

    The batches of several threads together hold what one may hold; with more than four,
    ``OF_A_THREAD`` bytes each.
    """
    room = _activations(device)
    if threads > 1:
        room = max(room // threads, OF_A_THREAD)
    return max(1, room // kept)


def equal_batches(examples: int, largest: int, threads: int = 1) -> int:
    """The size of batches of equal length, no larger than ``largest``, as many for each thread."""
    turns = math.ceil(examples / (threads * largest))
    return math.ceil(examples / (threads * turns))


def largest_batch_bytes(device: torch.device) -> int:
    """Bytes of a batch at most: activations and their gradients, and its segments' sums."""
    return 2 * _activations(device) + _sums(device)


def most_segments(device: torch.device, values: int) -> int:
    """Segments that a batch may have, for sums of so many float32 values each."""
    return max(1, _sums(device) // max(1, 4 * values))


def chunk_bytes(device: torch.device) -> int:
    """Bytes of per-example gradients that are made at a time, by each thread of a CPU."""
    return min(kind_of(device).chunk, _share(device, SHARE_OF_A_CHUNK) or kind_of(device).chunk)


def output_entries(device: torch.device) -> int:
    """Entries of the output that a loss works on at a time."""
    return kind_of(device).entries


def _activations(device: torch.device) -> int:
    return _share(device, SHARE_OF_ACTIVATIONS) or kind_of(device).activations


def _sums(device: torch.device) -> int:
    return _share(device, SHARE_OF_SUMS) or kind_of(device).sums


@cache
def _share(device: torch.device, parts: int) -> int | None:
    """One of so many parts of the memory that is free; None where that is not known, or the host's.

    As a power of two, and asked once: two runs on one machine have batches of one size, although
    some other program may hold a little more of the memory than before.
    """
    free = None if is_cpu(device) else free_memory(device)
    return None if free is None else 1 << max(0, (free // parts).bit_length() - 1)
