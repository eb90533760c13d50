"""The conditions under which everything is measured, restored afterwards."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
import torch.utils.deterministic

from analyze.gradients.device.devices import HOST, current, is_cpu
from analyze.gradients.model.computing import autocast_not_entered, autocast_off
from analyze.gradients.step.full_precision import full_precision

SAME_EACH_TIME = {"benchmark": False, "deterministic": True}  # cuDNN's choice of algorithms
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def measuring(device: torch.device = HOST) -> Iterator[None]:
    """Exact arithmetic, and nothing that hides calls or lacks a backward pass in eval mode.

    ``device`` is the current one, and kernels add in a fixed order where that costs little there.
    Gradients are on, also where the caller turned them off, as an evaluation does. Several threads
    may measure at a time: what is the whole program's is set by the first and set back by the last.
    """
    order = _in_order if _order_is_cheap(device) else nullcontext()
    gradients = torch.inference_mode(False), torch.enable_grad()
    with _in_force, order, current(device), autocast_off(), gradients[0], gradients[1]:
        yield


class _InForce:
    """A context that holds for as long as any thread is in it."""

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._inside = 0
        self._open = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._open.enter_context(self._context())
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._open.close()


@contextmanager
def _conditions() -> Iterator[None]:
    """Settings of the whole program while any thread measures."""
    with (
        full_precision(),
        torch.backends.cudnn.flags(enabled=True, **SAME_EACH_TIME),
        autocast_not_entered(),
        _no_activation_checkpointing(),
        _recurrence_without_cudnn(),
        _nothing_compiled(),
        _slow_is_not_wrong(),
    ):
        yield


def _order_is_cheap(device: torch.device) -> bool:
    """Whether a fixed order of sums is set: on a CPU, and elsewhere if the user asks for it.

    On CUDA torch takes slower kernels for it, and warns at each product of matrices unless cuBLAS
    was given a workspace by a variable of the environment: who sets that wants the same bits.
    """
    return is_cpu(device) or WORKSPACE in os.environ


@contextmanager
def threads_restored() -> Iterator[None]:
    """Torch has as many threads after the block as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    with torch.backends.cudnn.flags(enabled=False, **SAME_EACH_TIME):
        return function(*args)


class _Straight:
    """Stands for the reentrant kind: calls the function, keeps what it computes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The result of the function."""
        return function(*args)


@contextmanager
def _slow_is_not_wrong() -> Iterator[None]:
    """Torch does not warn that an operation without a batching rule under ``vmap`` is slow.

    Nor that one has no fixed order: whether the bits are the same twice is looked at before a run.
    Here, and not around each call: filters of warnings are all threads', and one that puts them
    back would take them from another.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        warnings.filterwarnings("ignore", message=r".* does not have a deterministic impl")
        warnings.filterwarnings("ignore", message="Memory Efficient attention defaults to a non-")
        yield


@contextmanager
def _sums_in_a_fixed_order() -> Iterator[None]:
    """Kernels add in the same order each time, so that the bits are the same.

    Several threads of a CPU do so but for sums into rows that are looked up, as in the backward
    pass of ``x[ids]``. What has no such kernel runs as it is; the one of attention that saves
    memory on CUDA is left for one that has, unless the user has set all this already.
    """
    if torch.are_deterministic_algorithms_enabled():
        yield
        return
    deterministic: Any = torch.utils.deterministic  # its attribute is made when it is imported
    backends: Any = torch.backends
    filling, saving = (
        deterministic.fill_uninitialized_memory,
        backends.cuda.mem_efficient_sdp_enabled(),
    )
    deterministic.fill_uninitialized_memory = False  # else every empty tensor is written once more
    backends.cuda.enable_mem_efficient_sdp(False)
    # The same as use_deterministic_algorithms, which imports torch's compiler: that takes seconds.
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")
        backends.cuda.enable_mem_efficient_sdp(saving)
        deterministic.fill_uninitialized_memory = filling


_in_force, _in_order = _InForce(_conditions), _InForce(_sums_in_a_fixed_order)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Functions in ``torch.compile`` run as they are written: compiled code shows no calls."""
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
