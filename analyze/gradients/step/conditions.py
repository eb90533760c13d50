"""The conditions under which everything is measured, restored afterwards."""

from __future__ import annotations

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

from analyze.gradients.model.computing import autocast_not_entered, autocast_off

FULL = "ieee"  # float32 products as they are, in torch's words
EXACT: dict[str, Any] = {  # of cuDNN
    "benchmark": False,
    "deterministic": True,
    "allow_tf32": False,
    "fp32_precision": FULL,
}
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def measuring() -> Iterator[None]:
    """Exact arithmetic, and nothing that hides calls or lacks a backward pass in eval mode.

    Gradients are on, also where the caller turned them off, as an evaluation does. Several threads
    may measure at a time: what is the whole program's is set by the first and set back by the last.
    """
    with _in_force, autocast_off(), torch.inference_mode(False), torch.enable_grad():
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
        _full_float32(),
        torch.backends.cudnn.flags(enabled=True, **EXACT),
        autocast_not_entered(),
        _no_activation_checkpointing(),
        _recurrence_without_cudnn(),
        _nothing_compiled(),
        _slow_is_not_wrong(),
        _sums_in_a_fixed_order(),
    ):
        yield


_in_force = _InForce(_conditions)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Torch has as many threads after the block as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 shortcuts.

    Torch has two ways to say so, and an error for whoever reads one that contradicts the other. All
    of the newer kind in full, the older one can be read: cuDNN's then contradicts it or is False.
    """
    places = _precisions()
    kept = [place.fp32_precision for place in places]
    _set_precisions(places, [FULL] * len(places))
    products, cudnn = torch.get_float32_matmul_precision(), _cudnn_allows_tf32()
    try:
        _set_older("highest", False)
        _set_precisions(places, [FULL] * len(places))
        yield
    finally:
        _set_older(products, cudnn)
        _set_precisions(places, kept)


def _precisions() -> list[Any]:
    """The holders of torch's newer settings of precision, the wider ones first."""
    backends: Any = torch.backends
    return [
        backends,
        backends.cuda.matmul,
        *(backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn),
        *(backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn),
    ]


def _set_precisions(places: list[Any], values: list[str]) -> None:
    for place, value in zip(places, values, strict=True):
        place.fp32_precision = value


def _cudnn_allows_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return True


def _set_older(products: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = cudnn


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
        """The result of the function."""
        return function(*args)


@contextmanager
def _slow_is_not_wrong() -> Iterator[None]:
    """Torch does not warn that an operation without a batching rule under ``vmap`` is slow.

    Here, and not around each call: filters of warnings are all threads', and one that puts them
    back would take them from another.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


@contextmanager
def _sums_in_a_fixed_order() -> Iterator[None]:
    """Several threads of a CPU add in the same order each time, so that the bits are the same.

    In torch they do so but for sums into rows that are looked up, as in the backward pass of
    ``x[ids]``. Where there is an accelerator the setting stays: it would make its kernels slow.
    """
    if torch.accelerator.is_available() or torch.are_deterministic_algorithms_enabled():
        yield
        return
    deterministic: Any = torch.utils.deterministic  # its attribute is made when it is imported
    filling = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = False  # else every empty tensor is written once more
    # The same as use_deterministic_algorithms, which imports torch's compiler: that takes seconds.
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")
        deterministic.fill_uninitialized_memory = filling


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
