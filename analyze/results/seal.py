"""The seal of a results file: the SHA-256 of all its bytes, behind the last of them.

HDF5 reads a file up to the end that it notes itself, so what comes after is invisible to every
reader; and it cuts it off when a program opens the file to change it. A damaged byte is noticed,
whatever it belongs to. A file that another program has changed has no seal: it ends where HDF5
notes its end. What has anything else behind that end is damaged.
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
    """What is to stand behind the content of a file."""
    return MARK + hashlib.sha256(content).digest()


def seal_of(path: Path) -> str:
    """``WHOLE``, ``DAMAGED``, or ``UNSEALED``: of an older version, or changed by a program.

    Raises:
        OSError: the file cannot be read.

    Cost: reading the file once, half a second for 256 MiB.
    """
    with path.open("rb") as file:
        return seal_in(file)


def seal_in(file: BinaryIO) -> str:
    """As ``seal_of``, of an open file."""
    whole = os.fstat(file.fileno()).st_size
    size, end = whole - LENGTH, end_of_file(file)
    if size >= 0:
        file.seek(size)
        mark = file.read(LENGTH)
        if mark.startswith(MARK):
            file.seek(0)
            return WHOLE if _digest(file, size) == mark[len(MARK) :] else DAMAGED
    return UNSEALED if end is None or end == whole else DAMAGED


def _digest(file: BinaryIO, size: int) -> bytes:
    """Of the next ``size`` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.digest()
