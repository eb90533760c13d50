"""What a forward pass does, counted and not timed.

A clock tells another time at every start, and what is decided by it differs from run to run. What
is counted is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analyze.gradients.model.replica import Replica

FIRST_FACTOR = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "addmv": 1, "mv": 0}  # its argument
CONVOLUTIONS = ("convolution", "_convolution", "cudnn_convolution")
ATTENTION = "_scaled_dot_product_"


@dataclass(frozen=True)
class PassCost:
    """The work of a forward pass over one example."""

    operations: int  # that are started, as many for a batch of any size
    multiply_adds: int  # of matrix products, convolutions and attention
    written: int  # bytes that operations write
    kept: int  # bytes that autograd keeps for the backward pass, at least 1
    parameters: int  # that are measured
    values: int  # of these


def cost_of(forward: Callable[[], object], replica: Replica) -> PassCost:
    """The work of ``forward``, a pass of the replica over one example.

    Where ``torch.func`` differentiates inside of the model, torch does not tell what is kept: all
    that is computed counts.

    Cost: a forward pass over one example, two where torch does not tell.
    """
    with _Counting() as counting:
        kept = _kept_bytes(forward, replica)
    if kept is None:
        with _Counting() as counting:
            forward()
        kept = counting.written
    done = counting.operations, counting.multiply_adds, counting.written
    return PassCost(*done, max(1, kept), len(replica.parameters), replica.values)


class _Counting(TorchDispatchMode):
    """Adds up what every operation does but those that only look at a tensor in another way."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to say so would load torch's compiler and SymPy."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.multiply_adds = self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
            self.operations += 1
            self.written += sum(t.numel() * t.element_size() for t in tensors)
            self.multiply_adds += _multiply_adds(func.overloadpacket.__name__, args, tensors)
        return result


def _multiply_adds(name: str, args: Any, results: list[Tensor]) -> int:
    """Those of an operation; ``torch.utils.flop_counter`` knows no attention on a CPU."""
    if name in FIRST_FACTOR:
        return results[0].numel() * int(args[FIRST_FACTOR[name]].shape[-1])
    if name in CONVOLUTIONS:
        data, weight, transposed = args[0], args[1], args[6]
        return (data if transposed else results[0]).numel() * weight[0].numel()
    if name.startswith(ATTENTION):
        query, key, value = args[:3]
        return query.numel() * key.shape[-2] + results[0].numel() * value.shape[-2]
    return 0


def _kept_bytes(forward: Callable[[], object], replica: Replica) -> int | None:
    """Bytes that autograd keeps; None where torch does not tell."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor.detach()  # a result as it is holds its own graph, which nothing would end

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    except RuntimeError:  # torch.func refuses such hooks
        return None
    weights = {p.data_ptr() for p in replica.model.parameters()}
    return sum(size for pointer, size in kept.items() if pointer not in weights)
