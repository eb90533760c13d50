"""Tensors in a torch file, as their pickle describes them; torch is not imported.

A tensor is a place in the file, with the type, sizes and strides of what is there. The arguments in
the pickle are checked: plain numbers, and storages of the file, within their bounds. A tensor of
another kind than the dense one is described by its kind alone. ``made_tensors`` makes them.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from analyze.checkpoints.torch_files.number_types import FORMS, NumberType, number_type
from analyze.checkpoints.torch_files.pickle_records import Placeholder, Record
from analyze.checkpoints.torch_files.pickled_values import names
from analyze.checkpoints.torch_files.plain_pickle import Name, UnknownNameError

KINDS = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexDouble": "complex128", "ComplexFloat": "complex64",
    "QUInt8": "quint8", "QInt8": "qint8", "QInt32": "qint32", "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4", "Untyped": "uint8",
}  # fmt: skip
STORAGE = re.compile(r"torch(?:\.cuda|\.storage)?\.(\w+)Storage")
CONSTANTS = re.compile(r"torch\.(per_(tensor|channel)_\w+|sparse_\w+|strided)")
TENSOR_CLASS = re.compile(r"torch(\.cuda|\.sparse|\.cuda\.sparse)?\.\w+Tensor")
OWN_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
NO_OWN_MODULES = frozenset({*sys.stdlib_module_names, "torch", "numpy"})
PLAIN = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
RAGGED = "torch.nested._internal.nested_tensor.NestedTensor"
WORDS = (*PLAIN, RAGGED)
MOST_AXES = 64  # of a tensor; torch has no more
LARGEST_SIZE = 1 << 63
# The kinds of tensors that are described by a word; another word is the name of a class.
SPARSE, NESTED, QUANTIZED, WITHOUT_VALUES = "sparse", "nested", "quantized", "without values"


@dataclass(eq=False)
class Bytes:
    """Bytes of the file that storages are views of."""

    size: int
    place: int = -1  # files from before torch 1.6 tell it last
    content: bytes | None = None  # of a few, which may be a number
    other_order: NumberType | None = None  # of numbers whose bytes are to be turned around


@dataclass(frozen=True, eq=False)
class Storage:
    """A storage: a part of bytes of the file, and the type of numbers in it."""

    whole: Bytes
    begin: int
    size: int
    kind: NumberType


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor that is still in its file."""

    kind: NumberType | None = None
    storage: Storage | None = None
    offset: int = 0  # numbers from the beginning of the storage
    sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    conjugate: bool = False  # whether it is a view of the conjugate of what is stored,
    negative: bool = False  # or of the negative
    parameter: bool = False
    with_gradient: bool = False  # of a parameter
    odd: str = ""  # what it is where it is no dense tensor with values of its own

    def number(self) -> float | int | None:
        """The value of a dense tensor of one real number; None for any other."""
        storage, form = self.storage, FORMS.get(self.kind.name) if self.kind else None
        if self.odd or storage is None or form is None or math.prod(self.sizes) != 1:
            return None
        if storage.whole.content is None or self.kind is None:
            return None
        size = self.kind.itemsize
        begin = storage.begin + self.offset * size
        little = (sys.byteorder == "little") is (storage.whole.other_order is None)
        part = storage.whole.content[begin : begin + size]
        (value,) = struct.unpack(f"{'<' if little else '>'}{form}", part)
        return -value if self.negative else value

    def at_one_place(self, other: PickledTensor) -> bool:
        """Whether two names have the same dense tensor."""
        if self.odd or other.odd or self.storage is None or other.storage is None:
            return False
        mine, others = (
            (id(t.storage.whole), t.storage.begin + t.offset * t.kind.itemsize, t.sizes, t.strides)
            for t in (self, other) if t.storage is not None and t.kind is not None
        )  # fmt: skip
        return mine == others


def finder(known: dict[str, Name], *, placeholders: bool = False) -> Callable[[str], Any]:
    """A function from names in a pickle to their meanings; it raises ``UnknownNameError``.

    With ``placeholders`` a name of a module that is neither Python's, torch's nor numpy's is taken
    for a class of somebody's own, whose objects are data.
    """

    def find(name: str) -> Any:
        if name in known:
            return known[name]
        short = name.removeprefix("torch.")
        if short != name and (kind := number_type(short)) is not None:
            return kind
        if any(p.fullmatch(name) for p in (STORAGE, CONSTANTS, TENSOR_CLASS)) or name in WORDS:
            return Name(name)
        own = OWN_CLASS.fullmatch(name) and name.partition(".")[0] not in NO_OWN_MODULES
        if own and placeholders:
            return Name(name, partial(Placeholder, name))
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
        "torch._utils._rebuild_sparse_tensor": lambda *_: PickledTensor(odd=SPARSE),
        "torch._utils._rebuild_sparse_csr_tensor": lambda *_: PickledTensor(odd=SPARSE),
        "torch._utils._rebuild_nested_tensor": lambda *_: PickledTensor(odd=NESTED),
        "torch._utils._rebuild_qtensor": lambda *_: PickledTensor(odd=QUANTIZED),
        "torch._utils._rebuild_meta_tensor_no_storage": _without_values,
        "torch._utils._rebuild_wrapper_subclass": lambda kind, *_: _foreign(kind),
        "torch._utils._rebuild_device_tensor_from_numpy": lambda *_: _foreign(Name("device")),
        "torch._utils._rebuild_xla_tensor": lambda *_: _foreign(Name("device")),
        "torch.nested._internal.nested_tensor._rebuild_njt": lambda *_: PickledTensor(odd=NESTED),
        "torch._dynamo.decorators._DimRange": lambda *words: Record("DimRange", *words),
        "torch.serialization._get_layout": lambda name: Name(_word(name)),
        "torch.device": lambda *words: ":".join(map(_word, words)),
        "torch.Size": lambda sizes=(): tuple(sizes) if type(sizes) in (tuple, list) else (),
    }
    return names() | {name: Name(name, build) for name, build in made.items()}


def kind_of_storage(name: Any) -> NumberType:
    """The type of numbers in a storage class."""
    match = STORAGE.fullmatch(name.name) if type(name) is Name else None
    kind = None if match is None else number_type(KINDS[match[1]])
    if kind is None:
        raise TypeError("a storage of no kind")
    return kind


def _dense(
    storage: Any, offset: Any, sizes: Any, strides: Any, _grad: Any = None, _hooks: Any = None,
    bits: Any = None,
) -> PickledTensor:  # fmt: skip
    """A tensor of its storage's type."""
    kind = getattr(storage, "kind", None)
    return _dense_of_type(storage, offset, sizes, strides, None, None, kind, bits)


def _parameter(data: Any, requires_grad: Any = True, *_: Any) -> PickledTensor:
    """A parameter without its other attributes."""
    if type(data) is not PickledTensor:
        raise TypeError("a parameter of no tensor")
    with_gradient = requires_grad is True
    if with_gradient and data.kind is not None and not data.kind.with_gradient:
        raise TypeError("a parameter of integers that requires a gradient")
    return replace(data, parameter=True, with_gradient=with_gradient)


def _of_class(build: Any, kind: Any, arguments: Any, _state: Any) -> PickledTensor:
    """A tensor with attributes, which are left out, or one of a class of its own."""
    if type(build) is not Name or build.build is None or type(arguments) is not tuple:
        raise TypeError("a tensor of no kind")
    if type(kind) is not Name or kind.name not in PLAIN:
        ragged = type(kind) is Name and kind.name == RAGGED
        return PickledTensor(odd=NESTED) if ragged else _foreign(kind)
    made = build.build(*arguments)
    if type(made) is not PickledTensor:
        raise TypeError("a tensor that is none")
    return made


def _without_values(kind: Any, sizes: Any, strides: Any, *_: Any) -> PickledTensor:
    """A tensor on torch's meta device."""
    if type(kind) is not NumberType:
        raise TypeError("a tensor of no type")
    sizes, strides = _shape(sizes, strides)
    return PickledTensor(kind, sizes=sizes, strides=strides, odd=WITHOUT_VALUES)


def _dense_of_type(
    storage: Any, offset: Any, sizes: Any, strides: Any, _grad: Any, _hooks: Any, kind: Any,
    bits: Any = None,
) -> PickledTensor:  # fmt: skip
    """A tensor within the bounds of its storage."""
    if type(storage) is not Storage or type(kind) is not NumberType:
        raise TypeError("a tensor of no storage")
    (sizes, strides), (offset,) = _shape(sizes, strides), sizes_in((offset,))
    end = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) + 1
    if 0 not in sizes and end * kind.itemsize > storage.size:
        raise ValueError("a tensor beyond its storage")
    if kind.quantized:
        return PickledTensor(odd=QUANTIZED)
    bits = bits if isinstance(bits, dict) else {}
    conjugate, negative = bits.get("conj") is True, bits.get("neg") is True
    return PickledTensor(kind, storage, offset, sizes, strides, conjugate, negative)


def _shape(sizes: Any, strides: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides, as many of the one as of the other; of no more numbers than can be."""
    sizes, strides = sizes_in(sizes), sizes_in(strides)
    if len(sizes) != len(strides) or math.prod(sizes) >= LARGEST_SIZE:
        raise ValueError("sizes of no tensor")
    return sizes, strides


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


def _foreign(kind: Any) -> PickledTensor:
    """A tensor of a class that is not imported, by the name of the class."""
    if type(kind) is not Name:
        raise TypeError("a tensor of no class")
    return PickledTensor(odd=kind.name.rpartition(".")[2])
