"""The precision in which a forward pass computes: that of the measurement, wherever it casts.

``torch.autocast`` and casts to a fixed lower precision (``x.half()``, ``x.to(torch.bfloat16)``,
``torch.zeros(n)`` in a float64 model) round what a model computes; they are no part of its
function. Inside ``Computing`` they are off, so that the proof in float64 and the run in float32 are
of one function. Casts to a higher precision, integers and truth values stay as they are.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.amp.autocast_mode import autocast
from torch.overrides import TorchFunctionMode

from analyze.gradients.device.devices import kinds_of_autocast
from analyze.gradients.numbers import at_least, named

HALVES = frozenset({torch.float16, torch.bfloat16, torch.complex32}) | frozenset(
    dtype for name in dir(torch)
    if name.startswith("float8_") and isinstance(dtype := getattr(torch, name), torch.dtype)
)  # fmt: skip
LOWER = {
    torch.float32: HALVES,
    torch.float64: HALVES | {torch.float32, torch.complex64},
}
METHODS = {  # each casts to what its name says
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
    Tensor.float: torch.float32,
    getattr(Tensor, "cfloat"): torch.complex64,  # noqa: B009 - unknown to its type stubs
    getattr(Tensor, "chalf"): torch.complex32,  # noqa: B009
}
# Names of functions that tell something of a tensor and compute nothing: passed on at once.
TELLING = frozenset({"__get__", "dim", "size", "stride", "numel", "is_floating_point"})


class Computing(TorchFunctionMode):
    """A forward pass in the precision ``dtype``, float32 or float64, or higher, without autocast.

    ``heard`` is called with what was left undone, and where; often the same.
    """

    def __init__(self, dtype: torch.dtype, heard: Callable[[str], None]) -> None:
        super().__init__()
        self._dtype = dtype
        self._lower = LOWER[dtype]
        self._whole = dtype == torch.float64  # where torch's own default is lower
        self._heard = heard

    def __enter__(self) -> Computing:
        self._off = autocast_off()  # a model may leave it on
        self._off.__enter__()
        self._before = getattr(_current, "computing", None)
        _current.computing = self
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        _current.computing = self._before
        self._off.__exit__(None, None, None)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in TELLING:
            return func(*args, **kwargs)
        if torch._C._is_any_autocast_enabled():  # by torch.set_autocast_enabled
            self.tell_autocast()
            with torch._C._DisableAutocast():
                return self._run(func, args, kwargs)
        return self._run(func, args, kwargs)

    def tell_autocast(self) -> None:
        """Report that autocast would be on."""
        self._heard(
            f"torch.autocast in {_place()} is off while measuring: it computes in "
            f"{named(self._dtype)}"
        )

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in METHODS:
            if METHODS[func] not in self._lower:
                return func(*args, **kwargs)
            return Tensor.to(args[0], self._lifted(METHODS[func]), **kwargs)
        if func is Tensor.type and len(args) == 2 and not isinstance(args[1], torch.dtype):
            args = args[0], torch.empty(0).type(args[1]).dtype
        if func is not Tensor.view:  # whose dtype is another reading of the same bits
            if any(type(value) is torch.dtype for value in args):
                args = tuple(self._lifted(v) if type(v) is torch.dtype else v for v in args)
            if isinstance(dtype := kwargs.get("dtype"), torch.dtype):
                kwargs = {**kwargs, "dtype": self._lifted(dtype)}
        if not self._whole and func is not Tensor.type_as and func is not Tensor.to:
            return func(*args, **kwargs)
        if not mutates(func):
            args, kwargs = self._wide(args), {k: self._wide(v) for k, v in kwargs.items()}
        return self._wide(func(*args, **kwargs))

    def _lifted(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype that stands for one that the model names."""
        if dtype not in self._lower:
            return dtype
        if dtype in HALVES:
            self._heard(
                f"{_place()} casts to {named(dtype)}: while measuring it computes in "
                f"{named(self._dtype)}"
            )
        return self._dtype if dtype.itemsize == 1 else at_least(dtype, self._dtype)

    def _wide(self, value: Any) -> Any:
        """Tensors without a gradient in the precision; casts of others would count as calls."""
        if isinstance(value, Tensor):
            if value.dtype in self._lower and not value.requires_grad:
                return value.to(at_least(value.dtype, self._dtype))
        elif type(value) in (list, tuple):
            return type(value)(self._wide(item) for item in value)
        return value


class _Current(threading.local):
    computing: Computing | None = None  # the innermost, of this thread


_current = _Current()
_ENTER = autocast.__enter__


@contextmanager
def autocast_not_entered() -> Iterator[None]:
    """In the block, entering ``torch.autocast`` leaves it off, however it was imported.

    One class's method enters all of its kinds and decorators. Backward passes run in threads of
    torch's own, so this cannot be a thread's own affair.
    """
    autocast.__enter__ = _enter  # type: ignore[method-assign]
    try:
        yield
    finally:
        autocast.__enter__ = _ENTER  # type: ignore[method-assign]


@contextmanager
def autocast_off() -> Iterator[None]:
    """In the block, autocast that was on in this thread is off."""
    kept = {device: torch.is_autocast_enabled(device) for device in kinds_of_autocast()}
    _set_autocast(dict.fromkeys(kept, False))
    try:
        yield
    finally:
        _set_autocast(kept)


def _enter(self: autocast) -> autocast:
    if self._enabled and _current.computing is not None:
        _current.computing.tell_autocast()
    _ENTER(self)  # which keeps what its own exit sets back, perhaps after the measurement
    torch.set_autocast_enabled(self.device, False)
    return self


def _set_autocast(enabled: dict[str, bool]) -> None:
    for device, on in enabled.items():
        if torch.is_autocast_enabled(device) != on:
            torch.set_autocast_enabled(device, on)


def _place() -> str:
    """The class of the innermost module whose code runs."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        module = frame.f_locals.get("self")
        if isinstance(module, torch.nn.Module):
            return type(module).__name__
    return "the model"


@cache
def mutates(function: Callable[..., Any]) -> bool:
    """Whether a torch function writes its result into its first argument."""
    name = getattr(function, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
