"""Whether a copy of a model computes with the original's weights, or with others that it had once.

Seen where torch computes, below every function, hook and closure, so that no way to reach a weight
is missed: a pass over a few examples meets the weights' memory or it does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analyze.errors import InputError, listed
from analyze.gradients.model.copying import Foreign

OURS = frozenset({"torch", "analyze"})


def refuse_foreign(run: Callable[[], Any], foreign: Sequence[Foreign]) -> None:
    """Run a model and raise where it computes with tensors that are not its own.

    Args:
        run: One pass; what it raises is told elsewhere, by one that must work.
        foreign: The tensors that it must not compute with.

    Raises:
        InputError: naming the tensor, and the function that reads it.
    """
    seen = _Seen({_memory(own.tensor): own for own in foreign})
    try:
        with seen:
            run()
    except Exception:  # such as two tensors of two types, one of them not its own
        if not seen.found:
            return
    stale = [(own.name, reader) for own, reader in seen.found.values() if own.stale]
    if stale:
        raise InputError(
            "the model keeps a tensor that it computed from its parameters earlier",
            found=f"{listed([name for name, _ in stale], 3)} has a graph: another checkpoint's "
            f"weights would not reach it; {stale[0][1]} reads it",
            expected="tensors computed from parameters in the forward pass",
            fix="compute it in forward, or in a property; or give a freshly built model",
        )
    if seen.found:
        raise InputError(
            "a function of the model reads its weights past the modules, and a copy is measured",
            found=listed([f"{own.name}, by {reader}" for own, reader in seen.found.values()], 3),
            expected="a model whose copy.deepcopy computes with its own weights",
            fix="take the weight from self, from the module that a hook is given, or from an "
            "argument; or register the module that has it as a part of the one that uses it",
        )


class _Seen(TorchDispatchMode):
    """Notes which of some tensors, by their memory, the calls of a pass take."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to say so would load torch's compiler and SymPy."""
        return False

    def __init__(self, foreign: dict[int, Foreign]) -> None:
        super().__init__()
        self._foreign = foreign
        self.found: dict[int, tuple[Foreign, str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            memory = _memory(value) if isinstance(value, Tensor) else 0  # 0: it has none
            if memory and memory in self._foreign and memory not in self.found:
                own = self._foreign[memory]
                self.found[memory] = own, _reader()
        return func(*args, **(kwargs or {}))


def _memory(tensor: Tensor) -> int:
    """Where a tensor's numbers begin, with those that share them."""
    if tensor.layout is not torch.strided:
        return 0
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # one that has no memory of its own
        return 0


def _reader() -> str:
    """The innermost function that is the user's own, and where it stands."""
    frame = sys._getframe(1)
    while frame is not None:
        if (frame.f_globals.get("__name__") or "").partition(".")[0] not in OURS:
            code = frame.f_code
            return f"{code.co_qualname} ({Path(code.co_filename).name}, line {frame.f_lineno})"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "a module of torch"
