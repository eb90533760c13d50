"""Tensors in a torch file, made from the arguments in their pickle once these are checked.

Torch's own functions are called with plain numbers and with storages of the file only, within
their bounds; a tensor of another kind than the dense one becomes one of its kind without content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from analyze.checkpoints.torch_files.pickled_values import names
from analyze.checkpoints.torch_files.plain_pickle import Name, Record, UnknownNameError

KINDS = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool, "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64, "QUInt8": torch.quint8, "QInt8": torch.qint8,
    "QInt32": torch.qint32, "QUInt4x2": torch.quint4x2, "QUInt2x4": torch.quint2x4,
    "Untyped": torch.uint8,
}  # fmt: skip
STORAGE = re.compile(r"torch(?:\.cuda|\.storage)?\.(\w+)Storage")
CONSTANTS = re.compile(r"torch\.(per_(tensor|channel)_\w+|sparse_\w+|strided)")
TENSOR_CLASS = re.compile(r"torch(\.cuda|\.sparse|\.cuda\.sparse)?\.\w+Tensor")
PLAIN = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
RAGGED = "torch.nested._internal.nested_tensor.NestedTensor"
WORDS = (*PLAIN, RAGGED)
DTYPES = {f"torch.{name}": v for name, v in vars(torch).items() if isinstance(v, torch.dtype)}
MOST_AXES = 64  # of a tensor; torch has no more
LARGEST_SIZE = 1 << 63
QUANTIZED = (torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4)


@dataclass(frozen=True)
class Storage:
    """A storage of the file, and the type of numbers in it."""

    bytes: torch.UntypedStorage
    dtype: torch.dtype


def finder(known: dict[str, Name]) -> Callable[[str], Any]:
    """A function from names in a pickle to their meanings; it raises ``UnknownNameError``."""

    def find(name: str) -> Any:
        if name in known:
            return known[name]
        if name in DTYPES:  # not getattr(torch, ...): torch imports modules by their names
            return DTYPES[name]
        if any(p.fullmatch(name) for p in (STORAGE, CONSTANTS, TENSOR_CLASS)) or name in WORDS:
            return Name(name)
        raise UnknownNameError(name)

    return find


def names_in_torch_files() -> dict[str, Name]:
    """Builders of plain values and tensors, by the names under which these are saved."""
    made: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": _dense,
        "torch._utils._rebuild_tensor_v2": _dense,
        "torch._utils._rebuild_tensor_v3": _dense_of_type,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._tensor._rebuild_from_type_v2": _of_class,
        "torch._utils._rebuild_sparse_tensor": lambda *_: _sparse(),
        "torch._utils._rebuild_sparse_csr_tensor": lambda *_: _sparse(),
        "torch._utils._rebuild_nested_tensor": lambda *_: _ragged(),
        "torch._utils._rebuild_qtensor": lambda *_: _quantized(),
        "torch._utils._rebuild_meta_tensor_no_storage": _without_values,
        "torch._utils._rebuild_wrapper_subclass": lambda kind, *_: _foreign(kind),
        "torch._utils._rebuild_device_tensor_from_numpy": lambda *_: _foreign(Name("device")),
        "torch._utils._rebuild_xla_tensor": lambda *_: _foreign(Name("device")),
        "torch.nested._internal.nested_tensor._rebuild_njt": lambda *_: _ragged(),
        "torch._dynamo.decorators._DimRange": lambda *words: Record("DimRange", *words),
        "torch.serialization._get_layout": lambda name: Name(_word(name)),
        "torch.device": lambda *words: ":".join(map(_word, words)),
        "torch.Size": lambda sizes=(): tuple(sizes) if type(sizes) in (tuple, list) else (),
    }
    return names() | {name: Name(name, build) for name, build in made.items()}


def kind_of_storage(name: Any) -> torch.dtype:
    """The type of numbers in a storage class."""
    match = STORAGE.fullmatch(name.name) if type(name) is Name else None
    if match is None:
        raise TypeError("a storage of no kind")
    return KINDS[match[1]]


def _dense(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any = None, _hooks: Any = None,
    bits: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor of its storage's type."""
    dtype = getattr(storage, "dtype", None)
    return _dense_of_type(storage, offset, size, stride, None, None, dtype, bits)


def _parameter(data: Any, requires_grad: Any = True, *_: Any) -> nn.Parameter:
    """A parameter without its other attributes."""
    if not isinstance(data, Tensor):
        raise TypeError("a parameter of no tensor")
    return nn.Parameter(data, requires_grad=requires_grad is True)


def _of_class(build: Any, kind: Any, arguments: Any, _state: Any) -> Tensor:
    """A tensor with attributes, which are left out, or one of a class of its own."""
    if type(build) is not Name or build.build is None or type(arguments) is not tuple:
        raise TypeError("a tensor of no kind")
    if type(kind) is not Name or kind.name not in PLAIN:
        return _ragged() if type(kind) is Name and kind.name == RAGGED else _foreign(kind)
    made = build.build(*arguments)
    if not isinstance(made, Tensor):
        raise TypeError("a tensor that is none")
    return made


def _without_values(dtype: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor on torch's meta device."""
    if not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor of no type")
    size, stride = sizes_in(size), sizes_in(stride)
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _dense_of_type(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any,
    bits: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor within the bounds of its storage."""
    if type(storage) is not Storage or not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor of no storage")
    size, stride, (offset,) = sizes_in(size), sizes_in(stride), sizes_in((offset,))
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if 0 not in size and end * dtype.itemsize > storage.bytes.nbytes():
        raise ValueError("a tensor beyond its storage")
    if dtype in QUANTIZED:
        return _quantized()
    made = torch.empty(0, dtype=dtype).set_(storage.bytes, offset, size, stride)
    bits = bits if isinstance(bits, dict) else {}
    return with_bits(made, bits.get("conj") is True, bits.get("neg") is True)


def with_bits(tensor: Tensor, conjugate: bool, negative: bool) -> Tensor:
    """The tensor as a view of its conjugate, of its negative, or of both."""
    tensor = tensor.conj() if conjugate else tensor
    return torch._neg_view(tensor) if negative else tensor


def sizes_in(values: Any) -> tuple[int, ...]:
    """Sizes, strides or offsets; a TypeError where they are no tuple or list of such numbers.

    Products of numbers without end would take for ever.
    """
    if type(values) not in (tuple, list) or len(values) > MOST_AXES:
        raise TypeError("sizes that are no numbers")
    if not all(type(v) is int and 0 <= v < LARGEST_SIZE for v in values):
        raise TypeError("sizes that are no numbers")
    return tuple(values)


def _word(value: Any) -> str:
    """A word or number of a device or layout; a list of lists could be a text without end."""
    if type(value) not in (str, int):
        raise TypeError("a word that is none")
    return str(value)


# Of each odd kind one tensor stands for all, as a file may name any number.


@cache
def _sparse() -> Tensor:
    return torch.zeros(1).to_sparse()


@cache
def _quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.qint8)


@cache
def _ragged() -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(1)])


def _foreign(kind: Any) -> Tensor:
    """An empty tensor of a new class with the name of one that is not imported."""
    if type(kind) is not Name:
        raise TypeError("a tensor of no class")
    return _of_foreign_class(kind.name.rpartition(".")[2])


@lru_cache(maxsize=256)
def _of_foreign_class(name: str) -> Tensor:
    return torch.empty(0).as_subclass(type(name, (Tensor,), {}))
