"""Sealed files: their content stands behind its hash, so that damage is noticed."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

from analyze.errors import InputError
from analyze.files.whole import write_whole

DIGEST = hashlib.sha256().digest_size


def write_sealed(path: Path, content: bytes) -> None:
    """Write content behind its SHA-256, whole or not at all, so that it survives a power cut.

    Raises:
        InputError: a link, no permission, or the disk is full; the old file is as it was.
    """
    try:
        if path.is_symlink():  # what a run writes beside its output leads nowhere else
            raise OSError(errno.ELOOP, "it is a link, which no run has made")
        write_whole(path, hashlib.sha256(content).digest(), content)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_sealed(path: Path) -> bytes | None:
    """The content of a sealed file; None where it is missing or a byte is damaged."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    content = sealed[DIGEST:]
    return content if hashlib.sha256(content).digest() == sealed[:DIGEST] else None


def is_sealed_unit(path: Path) -> bool:
    """Whether a file begins as a sealed unit does, with a digest, then tensors; damaged or not."""
    with path.open("rb") as file:
        head = file.read(DIGEST + 10)
    return len(head) == DIGEST + 10 and head[DIGEST + 8 :] == b'{"'


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error for a unit, or its folder, that cannot be written."""
    return InputError(
        "a unit of the run cannot be written",
        found=f"{path}: {error.strerror or error}",
        expected="a directory with write permission and enough space; finished units are kept",
        fix="make room and run the same command again, or --output RESULTS.h5 elsewhere",
    )
