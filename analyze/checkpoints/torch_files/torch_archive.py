"""The two forms of torch files: a zip archive with one entry a storage, and a row of pickles.

Only what describes the tensors is read, and storages of a few bytes, which may be numbers. Torch is
not imported.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from analyze.checkpoints.torch_files.number_types import NumberType
from analyze.checkpoints.torch_files.pickled_tensors import (
    Bytes,
    Storage,
    finder,
    kind_of_storage,
    names_in_torch_files,
    sizes_in,
)
from analyze.checkpoints.torch_files.plain_pickle import Machine

MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6
COMPRESSION = 1.05  # beyond the size of the file: torch stores, so more is not there
SMALL = 1 << 16  # bytes up to which a storage is read at once: steps and other numbers
LOCAL_HEADER = struct.Struct("<4s22xHH")


class ChangedError(RuntimeError):
    """The file was changed or replaced while it was read."""


@dataclass(frozen=True)
class TorchFile:
    """A file that was opened; its tensors are still in it, as ``PickledTensor``."""

    path: Path
    content: Any
    state: tuple[int, ...]  # by ``state_of``, when it was opened
    trusted: bool = False  # whether it is a pickle that ran code, whose tensors are torch's


def state_of(file: BinaryIO) -> tuple[int, ...]:
    """Numbers that tell a file from one that takes its place."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_file(path: Path) -> TorchFile:
    """The content of a torch file, without the values of its tensors.

    Raises:
        UnknownNameError: it asks for a name that holds no data.
        Exception: any kind, where it is damaged.
    """
    with path.open("rb") as file:
        return TorchFile(path, content_of(file), state_of(file))


def content_of(file: BinaryIO) -> Any:
    """The content of an open torch file; raises as ``open_file``."""
    return _from_archive(file) if _is_archive(file) else _from_pickles(file)


def _is_archive(file: BinaryIO) -> bool:
    """Whether a file is an archive, by its first bytes as in torch."""
    file.seek(0)
    return file.read(4) == b"PK\x03\x04"


def read_exactly(file: BinaryIO, place: int, size: int) -> bytes:
    """So many bytes of a file; a ``ChangedError`` where there are fewer."""
    file.seek(place)
    content = file.read(size)
    if len(content) != size:
        raise ChangedError("it is shorter than it was")
    return content


# --- archives


def _from_archive(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {e.filename.partition("/")[2]: e for e in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ValueError("two entries of one name")
        length = file.seek(0, 2)
        if unpacked_size(archive) > COMPRESSION * length:
            raise ValueError("it unpacks to more than it holds")
        pickled = archive.read(entries["data.pkl"])
        swapped = "byteorder" in entries and archive.read(entries["byteorder"]) == b"big"
    turned = swapped != (sys.byteorder == "big")

    def storage(key: str, kind: NumberType, count: int) -> Bytes:
        entry, size = entries[f"data/{key}"], count * kind.itemsize
        if not 0 <= size <= entry.file_size or entry.compress_type:
            raise ValueError("a storage that claims more than its entry has")
        place = _place(file, entry)
        if place + size > length:
            raise EOFError
        content = read_exactly(file, place, size) if size <= SMALL else None
        return Bytes(size, place, content, kind if turned and kind.itemsize > 1 else None)

    known: dict[str, Bytes] = {}

    def persistent(identity: Any) -> Storage:
        word, name, key, _, count = identity
        if word != "storage" or type(key) is not str or type(count) is not int:
            raise TypeError("an identity of no storage")
        kind = kind_of_storage(name)
        if key not in known:
            known[key] = storage(key, kind, count)
        return Storage(known[key], 0, known[key].size, kind)

    return Machine(
        io.BytesIO(pickled), finder(names_in_torch_files(), placeholders=True), persistent
    ).load()


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
    find = finder(names_in_torch_files(), placeholders=True)
    known: dict[str, tuple[Bytes, NumberType]] = {}
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
            known[key] = Bytes(count * kind.itemsize), kind
        whole, _ = known[key]
        if view is None:
            return Storage(whole, 0, whole.size, kind)
        _, start, length = view
        begin, end = sizes_in((start * kind.itemsize, (start + length) * kind.itemsize))
        if end > whole.size:
            raise ValueError("a view beyond its storage")
        return Storage(whole, begin, end - begin, kind)

    plain = Machine(file, find)
    if plain.load() != MAGIC or plain.load() != 1001:
        raise ValueError("no torch file")
    plain.load()  # about the system that saved it
    content = Machine(file, find, persistent).load()
    for key in plain.load():
        _find(file, *known[_storage_key(key)])
    if any(whole.place < 0 for whole, _ in known.values()):
        raise ValueError("a storage that is not in the file")
    return content


def _storage_key(key: Any) -> str:
    """The key of a storage; a list of lists could be a text without end."""
    if type(key) not in (str, int):
        raise TypeError("a key of no storage")
    return str(key)


def _find(file: BinaryIO, storage: Bytes, kind: NumberType) -> None:
    """Note where a storage lies, and go on behind it."""
    (count,) = struct.unpack("<q", file.read(8))
    if count * kind.itemsize != storage.size:
        raise ValueError("a storage of another size")
    storage.place = file.tell()
    if storage.size <= SMALL:
        storage.content = read_exactly(file, storage.place, storage.size)
    elif file.seek(0, 2) < storage.place + storage.size:
        raise EOFError
    file.seek(storage.place + storage.size)
