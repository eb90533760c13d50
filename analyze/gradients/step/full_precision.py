"""Products of float32 numbers in float32: no TF32, no bfloat16, whichever way they were asked for.

Torch keeps a precision for each backend and kind of operation, where one that is not set is that of
a wider place, ``generic`` in the end; the older flags are kept beside these. Reading an older flag
raises where a newer setting contradicts it. A convolution's precision has a state of its own before
anybody set it, which nobody can set again: it is left alone, and what is wider decides.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

FULL, REDUCED, UNSET = "ieee", "tf32", "none"  # in torch's words
HIGHEST = "highest"
PRECISION = "_set_fp32_precision_setter"  # torch's only function that sets one


@dataclass(frozen=True)
class _Place:
    """Where torch keeps a precision."""

    backend: str
    operation: str

    def read(self) -> str:
        """The precision that holds for it, by its own setting or a wider one's."""
        return str(torch._C._get_fp32_precision_getter(self.backend, self.operation))

    def write(self, precision: str) -> None:
        """Make it a setting of its own."""
        torch._C._set_fp32_precision_setter(self.backend, self.operation, precision)


GENERIC = _Place("generic", "all")
BACKENDS = [_Place(backend, "all") for backend in ("cuda", "mkldnn")]
OPERATIONS = [
    _Place(wide.backend, operation) for wide in BACKENDS for operation in ("matmul", "conv", "rnn")
]
PRODUCTS = {wide: _Place(wide.backend, "matmul") for wide in BACKENDS}


@contextmanager
def full_precision() -> Iterator[None]:
    """In the block float32 products are computed in float32; every setting is as before after it.

    What code in the block sets of these has no effect there or afterwards, as that of a model which
    turns cuDNN off by ``torch.backends.cudnn.flags``, whose other arguments allow TF32.
    """
    with ExitStack() as before:
        _set_newer(before)
        _set_older(before)
        _hold(before)
        yield


def _set_newer(before: ExitStack) -> None:
    """All to full precision, the wider ones first, and none that is so already by a wider one."""
    _change(before, GENERIC, GENERIC.read())
    for wide in BACKENDS:
        _change(before, wide, _own(wide, GENERIC))
    for place in OPERATIONS:
        if (own := place.read()) != FULL:
            _change(before, place, own)


def _change(before: ExitStack, place: _Place, own: str) -> None:
    before.callback(place.write, own)
    place.write(FULL)


def _own(place: _Place, wider: _Place) -> str:
    """The setting of a place itself; what is wider is at full precision, before and after."""
    found = place.read()
    wider.write(REDUCED)
    follows = place.read() != found
    wider.write(FULL)
    return UNSET if follows else found


def _set_older(before: ExitStack) -> None:
    """The older setting of products, which a profiler reads at every operation.

    To set it sets those of both backends, too.
    """
    products = torch.get_float32_matmul_precision()  # raises nothing: all is at full precision
    if products != HIGHEST:
        for wide, place in PRODUCTS.items():
            before.callback(place.write, _own(place, wide))
        before.callback(torch.set_float32_matmul_precision, products)
        torch.set_float32_matmul_precision(HIGHEST)
    if torch._C._get_onednn_allow_tf32():  # an XPU's
        before.callback(torch._C._set_onednn_allow_tf32, True)
        torch._C._set_onednn_allow_tf32(False)


def _hold(before: ExitStack) -> None:
    """Nothing in the block changes a precision; cuDNN's older flag can be read, and is off.

    The flag itself stays: setting it would set the convolutions', which cannot be undone.
    """
    flag = inspect.getattr_static(torch.backends.cudnn, "allow_tf32")
    changes: list[tuple[Any, str, Callable[..., Any]]] = [
        (flag, "getter", _no), (flag, "setter", _ignored),
        (torch._C, "_get_cudnn_allow_tf32", _no), (torch._C, "_set_cudnn_allow_tf32", _ignored),
        (torch._C, "_set_onednn_allow_tf32", _ignored),
        (torch._C, "_set_float32_matmul_precision", _ignored),
        (torch._C, "_set_cublas_allow_tf32", _ignored),
        (torch._C, PRECISION, _ignored),
    ]  # fmt: skip
    for holder, name, function in changes:
        before.callback(setattr, holder, name, getattr(holder, name))
        setattr(holder, name, function)


def _no() -> bool:
    return False


def _ignored(*_settings: object) -> None:
    pass
