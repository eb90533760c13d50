"""Where to compute, and how many examples at a time fit there."""

from __future__ import annotations

import torch
from torch import Tensor

from analyze.errors import InputError
from analyze.gradients.replica import Inputs, Replica

# What the activations of a batch may take, and the batch beyond which none gets faster.
ACTIVATION_BYTES = {"cpu": 512 << 20, "cuda": 8 << 30, "mps": 2 << 30}
SUM_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30, "mps": 512 << 20}  # the sums of a batch's parts
LARGEST_BATCH = {"cpu": 128, "cuda": 1024, "mps": 256}


def resolve_device(name: str) -> torch.device:
    """The device a name means; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name == "auto":
        return torch.device(next((d for d in ("cuda", "mps") if d in available), "cpu"))
    if name not in available:
        raise InputError(
            "there is no such device",
            found=f"device {name!r}",
            expected=f"auto, or one of {', '.join(available)} on this machine",
            fix="--device auto",
        )
    return torch.device(name)


def choose_batch_size(replica: Replica, example: Inputs) -> int:
    """As many examples as fit the activations of one into the device's share of memory.

    Args:
        replica: The model.
        example: A batch of one; its forward pass shows what autograd keeps.
    """
    kind = replica.device.type
    fits = ACTIVATION_BYTES.get(kind, ACTIVATION_BYTES["cpu"]) // activation_bytes(replica, example)
    return max(1, min(LARGEST_BATCH.get(kind, LARGEST_BATCH["cpu"]), fits))


def largest_batch_bytes(device: torch.device) -> int:
    """What a batch may take at most: activations and their gradients, and its parts' sums."""
    return 2 * ACTIVATION_BYTES.get(device.type, ACTIVATION_BYTES["cpu"]) + SUM_BYTES.get(
        device.type, SUM_BYTES["cpu"]
    )


def most_parts(device: torch.device, values: int) -> int:
    """Parts that a batch may have, for sums of so many float32 values each."""
    return max(1, SUM_BYTES.get(device.type, SUM_BYTES["cpu"]) // max(1, 4 * values))


def activation_bytes(replica: Replica, example: Inputs) -> int:
    """Bytes that autograd keeps for the backward pass of a batch, at least 1."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        replica(example)
    weights = {p.data_ptr() for p in replica.model.parameters()}
    return max(1, sum(size for pointer, size in kept.items() if pointer not in weights))
