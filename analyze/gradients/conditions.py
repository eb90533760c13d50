"""The conditions under which everything is measured, restored afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.utils.checkpoint


@contextmanager
def measuring() -> Iterator[None]:
    """Exact arithmetic, and activation checkpointing run straight through."""
    with _exact_arithmetic(), _no_activation_checkpointing():
        yield


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Full float32 products: no TF32 and no bfloat16 shortcuts."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


class _Straight:
    """Stands for the reentrant kind: calls the function, keeps what it computes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The function's own result."""
        return function(*args)


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
