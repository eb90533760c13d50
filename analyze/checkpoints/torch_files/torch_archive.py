"""The two forms of torch files: a zip archive with one entry a storage, and a row of pickles.

Storages of an archive are mapped where only names and shapes are wanted, so that whoever looks at a
checkpoint does not read it. Values that are measured are read: a file that its trainer writes
anew while it is mapped would end the program.
"""

from __future__ import annotations

import copy
import io
import os
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from analyze.checkpoints.torch_files.pickled_tensors import (
    Storage,
    found_by,
    kind_of_storage,
    names_in_torch_files,
    with_bits,
)
from analyze.checkpoints.torch_files.plain_pickle import Machine, things_inside

MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6
SMALL = 1 << 16  # bytes up to which a storage is read at once: steps and other numbers
LOCAL_HEADER = struct.Struct("<4s22xHH")


class ChangedError(RuntimeError):
    """A file is another one than a moment before."""


@dataclass(frozen=True)
class Mapped:
    """A file whose large storages are mapped, not read.

    Args:
        path: Of the file.
        content: What it holds.
        state: Which file it was.
        base: The mapping, None where all was read.
        trusted: Whether it is a pickle that ran code.
    """

    path: Path
    content: Any
    state: tuple[int, ...]
    base: torch.UntypedStorage | None
    trusted: bool = False

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors, and what holds some, with their values read into memory.

        What shares values goes on to do so.

        Raises:
            OSError: the file cannot be read.
            ChangedError: it is another one by now, or shorter.
            RecursionError: dictionaries and lists are too deep in one another.
        """
        if self.base is None:
            return dict(values)
        known: dict[int, torch.UntypedStorage] = {}
        with self.path.open("rb") as file:
            if state_of(file) != self.state:
                raise ChangedError("it was changed while it was read")
            read: dict[int, Any] = {
                id(value): self._read(value, file, known)
                for value in things_inside(values)
                if isinstance(value, Tensor)
            }
        return {name: copy.deepcopy(value, read) for name, value in values.items()}

    def _read(
        self, tensor: Tensor, file: BinaryIO, known: dict[int, torch.UntypedStorage]
    ) -> Tensor:
        assert self.base is not None
        try:
            mapped = tensor.untyped_storage()
            place = mapped.data_ptr() - self.base.data_ptr()
        except (NotImplementedError, RuntimeError):  # sparse, without values: refused elsewhere
            return tensor
        if not (0 <= place < self.base.nbytes() and mapped.nbytes()):
            return tensor
        if place not in known:
            known[place] = read_storage(file, place, mapped.nbytes())
        offset, size, stride = tensor.storage_offset(), tensor.shape, tensor.stride()
        made = torch.empty(0, dtype=tensor.dtype).set_(known[place], offset, size, stride)
        made = with_bits(made, tensor.is_conj(), tensor.is_neg())
        parameter = isinstance(tensor, nn.Parameter)
        return nn.Parameter(made, tensor.requires_grad) if parameter else made


def state_of(file: BinaryIO) -> tuple[int, ...]:
    """What tells a file from the one that takes its place."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_mapped(path: Path) -> Mapped:
    """What a torch file holds; large storages of an archive are mapped.

    Raises:
        UnknownNameError: it asks for what is no data.
        Exception: of any kind, where it is damaged.
    """
    with path.open("rb") as file:
        state = state_of(file)
        if not is_archive(file):
            return Mapped(path, _from_pickles(file), state, None)
        base: Any = torch.UntypedStorage.from_file(str(path), False, state[2])
        return Mapped(path, _from_archive(file, base), state, base)


def read_values(file: BinaryIO) -> Any:
    """What a torch file holds, all of it read.

    Raises:
        Exception: as ``open_mapped``.
    """
    return _from_archive(file, None) if is_archive(file) else _from_pickles(file)


def is_archive(file: BinaryIO) -> bool:
    """As torch tells it: by the first bytes."""
    file.seek(0)
    return file.read(4) == b"PK\x03\x04"


def read_storage(file: BinaryIO, place: int, size: int) -> torch.UntypedStorage:
    """Bytes of a file.

    Raises:
        ChangedError: there are fewer.
    """
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


# --- archives


def _from_archive(file: BinaryIO, base: torch.UntypedStorage | None) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {e.filename.partition("/")[2]: e for e in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ValueError("two entries of one name")
        pickled = archive.read(entries["data.pkl"])
        swapped = "byteorder" in entries and archive.read(entries["byteorder"]) == b"big"
    if swapped != (sys.byteorder == "big"):
        base = None

    def storage(key: str, kind: torch.dtype, count: int) -> torch.UntypedStorage:
        entry, size = entries[f"data/{key}"], count * kind.itemsize
        if not 0 <= size <= entry.file_size or entry.compress_type:
            raise ValueError("a storage that claims more than its entry has")
        place = _place(file, entry)
        if base is not None and size > SMALL:
            if place + size > base.nbytes():
                raise EOFError
            return base[place : place + size]
        content = read_storage(file, place, size)
        if swapped != (sys.byteorder == "big") and kind.itemsize > 1:
            content.byteswap(kind)
        return content

    known: dict[str, torch.UntypedStorage] = {}

    def persistent(identity: Any) -> Storage:
        word, name, key, _, count = identity
        if word != "storage" or type(key) is not str or type(count) is not int:
            raise TypeError("an identity of no storage")
        kind = kind_of_storage(name)
        if key not in known:
            known[key] = storage(key, kind, count)
        return Storage(known[key], kind)

    return Machine(io.BytesIO(pickled), found_by(names_in_torch_files()), persistent).load()


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin."""
    file.seek(entry.header_offset)
    mark, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if mark != b"PK\x03\x04":
        raise ValueError("an entry that is none")
    return entry.header_offset + LOCAL_HEADER.size + name + extra


# --- before torch 1.6


def _from_pickles(file: BinaryIO) -> Any:
    size = file.seek(0, 2)
    file.seek(0)
    find = found_by(names_in_torch_files())
    known: dict[str, Storage] = {}
    held = 0

    def persistent(identity: Any) -> Any:
        nonlocal held
        if identity[0] in ("module", b"module"):
            return identity[1]
        word, name, key, _, count, view = identity
        if word not in ("storage", b"storage") or type(count) is not int or count < 0:
            raise TypeError("an identity of no storage")
        kind, key = kind_of_storage(name), str(key)
        if key not in known:
            held += count * kind.itemsize
            if held > size:
                raise ValueError("storages that are larger than their file")
            known[key] = Storage(torch.UntypedStorage(count * kind.itemsize), kind)
        content = known[key].bytes
        if view is not None:
            _, start, length = view
            content = content[start * kind.itemsize : (start + length) * kind.itemsize]
        return Storage(content, kind)

    def one() -> Any:
        return Machine(file, find).load()

    if one() != MAGIC or one() != 1001:
        raise ValueError("no torch file")
    one()  # about the system that saved it
    content = Machine(file, find, persistent).load()
    for key in one():
        _fill(file, known[str(key)])
    return content


def _fill(file: BinaryIO, storage: Storage) -> None:
    (count,) = struct.unpack("<q", file.read(8))
    size = storage.bytes.nbytes()
    if count * storage.dtype.itemsize != size:
        raise ValueError("a storage of another size")
    storage.bytes.copy_(read_storage(file, file.tell(), size))
