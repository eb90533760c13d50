"""The structure of an HDF5 file from anyone, checked before any of its values are read.

HDF5 can take values from other files, follow links, unpack by code that it looks for on the
machine, and make up values that are nowhere. A results file has none of that.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS, MOST_GROUPS = 2_000, 100  # xarray takes 10 ms to open a group, whatever is in it
DEEPEST = 8  # groups within groups: xarray's work for each grows by more than the depth
MOST_BYTES = 256 << 20  # of values in memory; or MOST_TIMES the file, if that is more
MOST_TIMES = 64
EVER_PACKED = 1100  # the most that HDF5 packs, bytes to one
SMALL = 1 << 16  # bytes of a variable that was never written, and may be missing
TEXTS_AT_ONCE, AT_ONCE = 32 << 20, 4096  # bytes of texts, and texts, that are read at once
FEW = 64  # entries of an attribute that has them elsewhere in the file
DIMENSIONS = "DIMENSION_LIST"  # whose entries HDF5 itself makes
KINDS = "iufbSUO"
# Further attributes by which the library knows the axes of a variable, and their types.
SCALES = {
    "CLASS": h5py.h5t.TypeStringID, "NAME": h5py.h5t.TypeStringID,
    "REFERENCE_LIST": h5py.h5t.TypeCompoundID,
}  # fmt: skip
# A global heap, by HDF5's specification of its format: its length, then objects, each with number
# (0 for the free part), references, nothing, and size.
HEAP, HEAP_HEAD, HEAP_ENTRY = b"GCOL\x01\0\0\0", struct.Struct("<8sQ"), struct.Struct("<HHIQ")
BLOCK = 1 << 20  # bytes that are looked through at once
FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # those that come with the library


class StructureError(Exception):
    """The file has something that no results file has."""


def end_of_file(file: BinaryIO) -> int | None:
    """The end of an HDF5 file by its own header; None for a file of another kind."""
    file.seek(0)
    head = file.read(64)
    if len(head) < 64 or not head.startswith(SIGNATURE) or head[8] > 3:
        return None
    version = head[8]
    offsets, start = (head[13], 24 + 4 * version) if version < 2 else (head[9], 12)
    if offsets != 8:
        return None
    base, _, end = struct.unpack("<3Q", head[start : start + 24])
    return int(base + end)


def check_heaps(stream: BinaryIO) -> None:
    """Refuse a heap of texts in which HDF5 would go on for ever: a free part of no length.

    Called before the library reads anything, as its loops cannot be stopped.

    Raises:
        StructureError: there is one, or heaps that lie within each other.

    Cost: the file is read once.
    """
    left = stream.seek(0, os.SEEK_END)  # bytes of all heaps, which honest ones share
    for place in _places_of(HEAP, stream):
        stream.seek(place)
        head = stream.read(HEAP_HEAD.size)
        length = HEAP_HEAD.unpack(head)[1] if len(head) == HEAP_HEAD.size else 0
        left -= length
        if left < 0:
            raise StructureError(f"the heap at byte {place} is longer than the file has room for")
        entries = stream.read(max(0, length - HEAP_HEAD.size))
        at = 0
        while at + HEAP_ENTRY.size <= len(entries):
            number, _, _, taken = HEAP_ENTRY.unpack_from(entries, at)
            if number == 0 and taken == 0:
                raise StructureError(f"the heap at byte {place} has a free part of no length")
            at += taken if number == 0 else HEAP_ENTRY.size + -(-taken // 8) * 8


def _places_of(mark: bytes, stream: BinaryIO) -> Iterator[int]:
    """Every place of a mark in a file, which may be read elsewhere meanwhile."""
    begin, before = 0, b""
    while True:
        stream.seek(begin)
        block = before + stream.read(BLOCK)
        start, found = begin - len(before), block.find(mark)
        while found >= 0:
            yield start + found
            found = block.find(mark, found + 1)
        if len(block) - len(before) < BLOCK:
            return
        begin, before = begin + BLOCK, block[1 - len(mark) :]


def check_structure(file: h5py.File, size: int) -> None:
    """Refuse objects that lead out of a file of ``size`` bytes, or claim more than is in it.

    Raises:
        StructureError: naming the object.
    """
    seen = {h5py.h5o.get_info(file.id).addr}
    groups: list[h5py.Group] = [file]
    variables: list[tuple[str, h5py.Dataset]] = []
    most = max(MOST_BYTES, MOST_TIMES * size)
    total = _bytes_of_attributes(file, "/")
    number_of_groups = 1
    while groups:
        group = groups.pop()
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise StructureError(f"{place} is a link to elsewhere")
            member = group[name]
            address = h5py.h5o.get_info(member.id).addr
            if address in seen:
                raise StructureError(f"{place} is there a second time")
            seen.add(address)
            number_of_groups += isinstance(member, h5py.Group)
            if number_of_groups > MOST_GROUPS or len(seen) > MOST_OBJECTS:
                raise StructureError(f"{place} is one of too many")
            total += _bytes_of_attributes(member, place)
            if isinstance(member, h5py.Group):
                if place.count("/") > DEEPEST:
                    raise StructureError(f"{place} lies too deep")
                groups.append(member)
            elif isinstance(member, h5py.Dataset):
                variables.append((place, member))
                total += _bytes_of(member, place)
                if total <= most and member.dtype.kind == "O":
                    total += _bytes_of_texts(member, size, most - total, place)
            if total > most:
                raise StructureError(f"{size} bytes that become {total} and more in memory")
    for place, variable in variables:
        _check_dimensions(file, variable, place, seen)


def _bytes_of_attributes(member: h5py.HLObject, place: str) -> int:
    """The size of the texts in an object's attributes; refused where one has many."""
    total = 0
    for name in member.attrs:
        attribute = member.attrs.get_id(name)
        if attribute.dtype.kind != "O":
            continue
        if math.prod(attribute.shape or ()) > FEW:
            raise StructureError(f"{name[:60]!r} of {place} has more than {FEW} entries")
        if h5py.check_string_dtype(attribute.dtype) is not None:
            total += _length(member.attrs[name])
        elif name != DIMENSIONS:
            raise StructureError(f"{name[:60]!r} of {place} is neither number nor text")
    return total


def _bytes_of_texts(dataset: h5py.Dataset, size: int, most: int, place: str) -> int:
    """The size of texts of any length; reading ends where it is more than ``most``.

    Any number of texts may be one and the same in the file. No text is longer than the file, so
    that few are read at once where they could be long.
    """
    if dataset.ndim == 0:
        return _length(dataset[()])
    if dataset.ndim > 1:
        raise StructureError(f"{place} holds texts along {dataset.ndim} axes")
    at_once = min(max(1, TEXTS_AT_ONCE // max(size, 1)), AT_ONCE)
    total = 0
    for begin in range(0, len(dataset), at_once):
        total += _length(dataset[begin : begin + at_once])
        if total > most:
            break
    return total


def _length(texts: Any) -> int:
    """The length of a text, or of all texts of an array."""
    return sum(map(len, np.ravel(texts)))


def _check_dimensions(file: h5py.File, dataset: h5py.Dataset, name: str, seen: set[int]) -> None:
    """Refuse axes that lead to no variable of the file; the library follows anything, and dies."""
    for attribute in (DIMENSIONS, *SCALES):
        if attribute not in dataset.attrs:
            continue
        kind, shape = h5py.h5a.open(dataset.id, attribute.encode()).get_type(), None
        if attribute == DIMENSIONS:
            listed = isinstance(kind, h5py.h5t.TypeVlenID)
            good = listed and isinstance(kind.get_super(), h5py.h5t.TypeReferenceID)
            shape = (dataset.ndim,)
        else:
            good = isinstance(kind, SCALES[attribute])
        if not good or shape not in (None, dataset.attrs.get_id(attribute).shape):
            raise StructureError(f"{name} has no proper {attribute}")
    for axis in dataset.attrs.get(DIMENSIONS, ()):
        for reference in axis:
            target = (
                file[reference] if isinstance(reference, h5py.Reference) and reference else None
            )
            if (
                not isinstance(target, h5py.Dataset)
                or h5py.h5o.get_info(target.id).addr not in seen
            ):
                raise StructureError(f"an axis of {name} is no variable of the file")


def _bytes_of(dataset: h5py.Dataset, name: str) -> int:
    """The size of a variable in memory, or of one of its chunks, if these are larger.

    Refused where its values are not plain or not here.
    """
    made = dataset.id.get_create_plist()
    if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
        raise StructureError(f"{name} takes its values from other files")
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if any(kind not in FILTERS for kind in filters):
        raise StructureError(f"{name} is packed in a way that this program does not know")
    kind = dataset.dtype
    foreign = kind.kind == "O" and h5py.check_string_dtype(kind) is None
    if foreign or kind.kind not in KINDS or kind.fields or kind.subdtype:
        raise StructureError(f"{name} holds {kind}, which is neither number nor text")
    size = max(int(dataset.size or 0), math.prod(dataset.chunks or ())) * kind.itemsize
    if size > SMALL + EVER_PACKED * dataset.id.get_storage_size():
        raise StructureError(f"{name} claims {size} bytes, which are not in the file")
    return size
