"""The seal of a results file: the SHA-256 of its content, behind the content.

HDF5 notes the end of its content in the file. No reader sees the bytes behind it, and a program
that changes the file cuts them off. So every damaged byte is noticed, and a file that another
program has changed has no seal. A file with anything else behind the noted end is damaged.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from analyze.files.hdf5 import end_of_file

MARK = b"analyze sha-256:"
LENGTH = len(MARK) + hashlib.sha256().digest_size
BLOCK = 1 << 20

WHOLE = "as it was written"
UNSEALED = "without a seal"
DAMAGED = "damaged"


def seal(content: bytes | memoryview) -> bytes:
    """The bytes to write behind the content of a file."""
    return MARK + hashlib.sha256(content).digest()


def seal_of(path: Path) -> str:
    """``WHOLE``, ``DAMAGED``, or ``UNSEALED``: of an older version, or changed by a program."""
    with path.open("rb") as file:
        return seal_in(file)


def seal_in(file: BinaryIO) -> str:
    """The state of an open file's seal, as ``seal_of`` returns it."""
    total = os.fstat(file.fileno()).st_size
    size, end = total - LENGTH, end_of_file(file)
    if size >= 0:
        file.seek(size)
        mark = file.read(LENGTH)
        if mark.startswith(MARK):
            file.seek(0)
            return WHOLE if _digest(file, size) == mark[len(MARK) :] else DAMAGED
    return UNSEALED if end is None or end == total else DAMAGED


def _digest(file: BinaryIO, size: int) -> bytes:
    """The SHA-256 of the next ``size`` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.digest()
