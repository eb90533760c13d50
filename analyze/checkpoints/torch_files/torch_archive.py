"""The two forms of torch files: a zip archive with one entry a storage, and a row of pickles.

Storages of an archive are mapped where only names and shapes are wanted. Values that are measured
are read: a file that its trainer writes anew while it is mapped would end the program.
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
    finder,
    kind_of_storage,
    names_in_torch_files,
    with_bits,
)
from analyze.checkpoints.torch_files.plain_pickle import Machine, things_inside

MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6
COMPRESSION = 1.05  # beyond the size of the file: torch stores, so more is not there
SMALL = 1 << 16  # bytes up to which a storage is read at once: steps and other numbers
LOCAL_HEADER = struct.Struct("<4s22xHH")


class ChangedError(RuntimeError):
    """The file was changed or replaced while it was read."""


@dataclass(frozen=True)
class Mapped:
    """A file whose large storages are mapped, not read."""

    path: Path
    content: Any
    state: tuple[int, ...]  # by ``state_of``, when it was opened
    base: torch.UntypedStorage | None  # the mapping; None where all was read
    trusted: bool = False  # whether it is a pickle that ran code

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors, and objects that hold some, with their values read into memory.

        Tensors that share a storage share one again.

        Raises:
            OSError: the file cannot be read.
            ChangedError: it was changed since it was opened.
            RecursionError: dictionaries and lists are nested too deeply.
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
    """Numbers that tell a file from one that takes its place."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_mapped(path: Path) -> Mapped:
    """The content of a torch file, with large storages of an archive mapped.

    Raises:
        UnknownNameError: it asks for a name that holds no data.
        Exception: any kind, where it is damaged.
    """
    with path.open("rb") as file:
        state = state_of(file)
        if not _is_archive(file):
            return Mapped(path, _from_pickles(file), state, None)
        base: Any = torch.UntypedStorage.from_file(str(path), False, state[2])
        return Mapped(path, _from_archive(file, base), state, base)


def read_values(file: BinaryIO) -> Any:
    """The content of a torch file, all of it read; raises as ``open_mapped``."""
    return _from_archive(file, None) if _is_archive(file) else _from_pickles(file)


def _is_archive(file: BinaryIO) -> bool:
    """Whether a file is an archive, by its first bytes as in torch."""
    file.seek(0)
    return file.read(4) == b"PK\x03\x04"


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


# --- archives


def _from_archive(file: BinaryIO, base: torch.UntypedStorage | None) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {e.filename.partition("/")[2]: e for e in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ValueError("two entries of one name")
        if unpacked_size(archive) > COMPRESSION * file.seek(0, 2):
            raise ValueError("it unpacks to more than it holds")
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

    return Machine(io.BytesIO(pickled), finder(names_in_torch_files()), persistent).load()


def unpacked_size(archive: zipfile.ZipFile) -> int:
    """The bytes that the entries of an archive claim to have."""
    return sum(entry.file_size for entry in archive.infolist())


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """The place of an entry's first byte."""
    file.seek(entry.header_offset)
    mark, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if mark != b"PK\x03\x04":
        raise ValueError("an entry that is none")
    return entry.header_offset + LOCAL_HEADER.size + name + extra


# --- before torch 1.6


def _from_pickles(file: BinaryIO) -> Any:
    size = file.seek(0, 2)
    file.seek(0)
    find = finder(names_in_torch_files())
    known: dict[str, Storage] = {}
    held = 0

    def persistent(identity: Any) -> Any:
        nonlocal held
        if identity[0] in ("module", b"module"):
            return identity[1]
        word, name, key, _, count, view = identity
        if word not in ("storage", b"storage") or type(count) is not int or count < 0:
            raise TypeError("an identity of no storage")
        kind, key = kind_of_storage(name), _storage_key(key)
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

    plain = Machine(file, find)
    if plain.load() != MAGIC or plain.load() != 1001:
        raise ValueError("no torch file")
    plain.load()  # about the system that saved it
    content = Machine(file, find, persistent).load()
    for key in plain.load():
        _fill(file, known[_storage_key(key)])
    return content


def _storage_key(key: Any) -> str:
    """The key of a storage; a list of lists could be a text without end."""
    if type(key) not in (str, int):
        raise TypeError("a key of no storage")
    return str(key)


def _fill(file: BinaryIO, storage: Storage) -> None:
    (count,) = struct.unpack("<q", file.read(8))
    size = storage.bytes.nbytes()
    if count * storage.dtype.itemsize != size:
        raise ValueError("a storage of another size")
    storage.bytes.copy_(read_storage(file, file.tell(), size))
