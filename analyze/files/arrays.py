"""Arrays of a safetensors file, read and not mapped.

A file that its writer makes shorter while it is mapped would end the program.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import safe_open
from safetensors.numpy import _TYPES as TYPES


class ChangedArraysError(OSError):
    """The file was changed or replaced while it was read."""


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file by name, and its metadata.

    Raises:
        OSError: it cannot be read, or was changed meanwhile.
        Exception: any kind, where it is damaged.
    """
    with path.open("rb") as raw:
        before = _state_of(raw)
        with safe_open(path, framework="np") as file:  # which checks the header and all offsets
            names, metadata = list(file.keys()), dict(file.metadata() or {})
            (length,) = struct.unpack("<Q", raw.read(8))
            header = json.loads(raw.read(length))
            arrays = {name: _array(file, raw, 8 + length, header[name], name) for name in names}
        with path.open("rb") as again:
            if not before == _state_of(raw) == _state_of(again):
                raise ChangedArraysError("it was changed while it was read")
    return arrays, metadata


def _state_of(file: BinaryIO) -> tuple[int, ...]:
    """Numbers that tell a file from one that takes its place, and from its later self."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _array(file: Any, raw: BinaryIO, begin: int, entry: dict[str, Any], name: str) -> np.ndarray:
    """An array, read by the library where numpy has no such type."""
    kind, (start, end) = TYPES.get(entry["dtype"]), entry["data_offsets"]
    if kind is None:
        return file.get_tensor(name)
    flat = np.empty((end - start) // np.dtype(kind).itemsize, kind)
    raw.seek(begin + start)
    values: Any = flat.view(np.uint8)
    rest = memoryview(values if flat.size else b"")
    while rest:
        count = raw.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise ChangedArraysError("it is shorter than it was")
        rest = rest[count:]
    return flat.reshape(entry["shape"])
