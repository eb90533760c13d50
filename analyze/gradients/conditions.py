"""The conditions under which everything is measured, restored afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint

EXACT = {"benchmark": False, "deterministic": True, "allow_tf32": False}  # of cuDNN
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def measuring() -> Iterator[None]:
    """Exact arithmetic, and nothing that hides calls or lacks a backward pass in eval mode."""
    with (
        _exact_arithmetic(),
        _no_activation_checkpointing(),
        _recurrence_without_cudnn(),
        _nothing_compiled(),
    ):
        yield


@contextmanager
def threads_restored() -> Iterator[None]:
    """Torch has as many threads after the block as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Full float32 products: no TF32 and no bfloat16 shortcuts."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, **EXACT):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def _recurrence_without_cudnn() -> Iterator[None]:
    """Recurrent layers by torch's kernels: cuDNN's have no backward pass in eval mode.

    The modules look their functions up in a namespace that passes on to torch's own: what stands
    in the namespace itself comes before.
    """
    namespace = vars(torch._VF)
    kept = {name: namespace[name] for name in RECURRENT if name in namespace}
    namespace.update({name: partial(_without_cudnn, getattr(torch, name)) for name in RECURRENT})
    try:
        yield
    finally:
        for name in RECURRENT:
            del namespace[name]
        namespace.update(kept)


def _without_cudnn(function: Callable[..., Any], *args: Any) -> Any:
    with torch.backends.cudnn.flags(enabled=False, **EXACT):
        return function(*args)


class _Straight:
    """Stands for the reentrant kind: calls the function, keeps what it computes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The function's own result."""
        return function(*args)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """What ``torch.compile`` wrapped runs as it was written: compiled code announces no calls."""
    if "torch._dynamo" not in sys.modules:  # nothing can be compiled, and the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _no_activation_checkpointing() -> Iterator[None]:
    """Both kinds hide or repeat the calls that use parameters: the function runs as it is.

    Models import ``checkpoint`` by name, so what it looks up when it is called is exchanged: the
    reentrant kind's function, and the hook by which the other kind forgets what was saved.
    """
    module: Any = torch.utils.checkpoint
    kept = module.CheckpointFunction, module._checkpoint_hook
    module.CheckpointFunction = _Straight
    module._checkpoint_hook = lambda *_args, **_kwargs: nullcontext()
    try:
        yield
    finally:
        module.CheckpointFunction, module._checkpoint_hook = kept
