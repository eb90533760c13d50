"""Tensors of torch, made of what a torch file says of them, with their values read into memory.

Values are read, not mapped: a file that its trainer writes anew while it is mapped would end the
program.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from analyze.checkpoints.torch_files.containers import things_inside
from analyze.checkpoints.torch_files.number_types import NumberType
from analyze.checkpoints.torch_files.pickled_tensors import (
    NESTED,
    QUANTIZED,
    SPARSE,
    WITHOUT_VALUES,
    Bytes,
    PickledTensor,
)
from analyze.checkpoints.torch_files.torch_archive import (
    ChangedError,
    TorchFile,
    content_of,
    state_of,
)


def values_of(opened: TorchFile, values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of a file, and objects that hold some, with their values read into memory.

    Tensors that share a storage share one again.

    Raises:
        OSError: the file cannot be read.
        ChangedError: it was changed since it was opened.
        RecursionError: dictionaries and lists are nested too deeply.
    """
    with opened.path.open("rb") as file:
        if state_of(file) != opened.state:
            raise ChangedError("it was changed while it was read")
        return _with_tensors(values, file)


def read_values(file: BinaryIO) -> Any:
    """The content of an open torch file, all of it read; raises as ``open_file``."""
    return _with_tensors({"": content_of(file)}, file)[""]


def dtype_of(kind: NumberType) -> torch.dtype:
    """Torch's type of these numbers; a RuntimeError where this torch has none of the name."""
    dtype = getattr(torch, kind.name, None)
    if not isinstance(dtype, torch.dtype):
        raise RuntimeError(f"no numbers of type {kind.name} in torch {torch.__version__}")
    return dtype


def read_storage(file: BinaryIO, place: int, size: int) -> torch.UntypedStorage:
    """So many bytes of a file; a ``ChangedError`` where there are fewer."""
    storage = torch.UntypedStorage(size)
    if size == 0:
        return storage
    file.seek(place)
    values: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    rest = memoryview(values)
    while rest:
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise ChangedError("it is shorter than it was")
        rest = rest[count:]
    return storage


def _with_tensors(values: Mapping[str, Any], file: BinaryIO) -> dict[str, Any]:
    """The values with tensors and types of torch in place of what describes them."""
    storages: dict[int, torch.UntypedStorage] = {}
    made: dict[int, Any] = {}
    for value in things_inside(values):
        if isinstance(value, PickledTensor) and id(value) not in made:
            made[id(value)] = _tensor(value, file, storages)
        elif isinstance(value, NumberType):
            made[id(value)] = dtype_of(value)
    return {name: copy.deepcopy(value, made) for name, value in values.items()}


def _tensor(
    pickled: PickledTensor, file: BinaryIO, storages: dict[int, torch.UntypedStorage]
) -> Tensor:
    if pickled.odd:
        made = _odd(pickled)
    else:
        assert pickled.storage is not None
        assert pickled.kind is not None
        whole, begin = pickled.storage.whole, pickled.storage.begin
        if id(whole) not in storages:
            storages[id(whole)] = _read(whole, file)
        storage: Any = storages[id(whole)]
        if (begin, pickled.storage.size) != (0, whole.size):
            storage = storage[begin : begin + pickled.storage.size]
        made = torch.empty(0, dtype=dtype_of(pickled.kind)).set_(
            storage, pickled.offset, pickled.sizes, pickled.strides
        )
        made = made.conj() if pickled.conjugate else made
        made = torch._neg_view(made) if pickled.negative else made
    return nn.Parameter(made, pickled.with_gradient) if pickled.parameter else made


def _read(storage: Bytes, file: BinaryIO) -> torch.UntypedStorage:
    made = read_storage(file, storage.place, storage.size)
    if storage.other_order is not None:
        made.byteswap(dtype_of(storage.other_order))
    return made


# --- tensors of other kinds: one without content stands for all, as a file may name any number


def _odd(pickled: PickledTensor) -> Tensor:
    if pickled.odd == WITHOUT_VALUES and pickled.kind is not None:
        dtype = dtype_of(pickled.kind)
        return torch.empty_strided(pickled.sizes, pickled.strides, dtype=dtype, device="meta")
    return _of_kind(pickled.odd) if pickled.odd in KINDS else _of_foreign_class(pickled.odd)


KINDS = {
    SPARSE: lambda: torch.zeros(1).to_sparse(),
    NESTED: lambda: torch.nested.nested_tensor([torch.zeros(1)]),
    QUANTIZED: lambda: torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.qint8),
}


@cache
def _of_kind(kind: str) -> Tensor:
    return KINDS[kind]()


@lru_cache(maxsize=256)
def _of_foreign_class(name: str) -> Tensor:
    """An empty tensor of a new class with the name of one that is not imported."""
    return torch.empty(0).as_subclass(type(name, (Tensor,), {}))
