"""Whether a copy of a model computes with the original's weights, or with former ones.

This is seen where torch computes, below every function, hook and closure, so that no way to reach a
weight is missed: a pass over a few examples meets the weights' memory or it does not.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analyze.errors import InputError, listed
from analyze.gradients.model.copying import Foreign

Result = TypeVar("Result")
OURS = frozenset({"torch", "analyze"})


def without_foreign(run: Callable[[], Result], foreign: Sequence[Foreign]) -> Result:
    """What a run of a model gives; raise where it computes with tensors that are not its own.

    Raises:
        InputError: naming the tensor, and the function that reads it. Else what ``run`` raises.
    """
    seen = _Seen({_memory(each.tensor): each for each in foreign})
    try:
        with seen:
            result = run()
    except Exception:  # such as two tensors of two types, one of them not its own
        if not seen.readers:
            raise
    readers = [*seen.readers.values()]
    stale = [(tensor.name, reader) for tensor, reader in readers if tensor.stale]
    if stale:
        raise InputError(
            "the model keeps a tensor that it computed from its parameters earlier",
            found=f"{listed([name for name, _ in stale], 3)} has a graph: another checkpoint's "
            f"weights would not reach it; {stale[0][1]} reads it",
            expected="tensors computed from parameters in the forward pass",
            fix="compute it in forward, or in a property; or give a freshly built model",
        )
    if readers:
        raise InputError(
            "a function of the model reads its weights past the modules, and a copy is measured",
            found=listed([f"{tensor.name}, by {reader}" for tensor, reader in readers], 3),
            expected="a model whose copy.deepcopy computes with its own weights",
            fix="take the weight from self, from the module that a hook is given, or from an "
            "argument; or register the module that has it as a part of the one that uses it",
        )
    return result


class _Seen(TorchDispatchMode):
    """Notes which of some tensors, by their memory, the calls of a pass take."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to say so would load torch's compiler and SymPy."""
        return False

    def __init__(self, foreign: dict[int, Foreign]) -> None:
        super().__init__()
        self._foreign = foreign
        self.readers: dict[int, tuple[Foreign, str]] = {}  # by memory

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            memory = _memory(value) if isinstance(value, Tensor) else 0
            if memory and memory in self._foreign and memory not in self.readers:
                self.readers[memory] = self._foreign[memory], _reader()
        return func(*args, **(kwargs or {}))


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's numbers, which views share; 0 where it has none."""
    if tensor.layout is not torch.strided:
        return 0
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own
        return 0


def _reader() -> str:
    """The innermost function that is the user's own, and where it stands."""
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        if (frame.f_globals.get("__name__") or "").partition(".")[0] not in OURS:
            code = frame.f_code
            return f"{code.co_qualname} ({Path(code.co_filename).name}, line {line})"
    return "a module of torch"
