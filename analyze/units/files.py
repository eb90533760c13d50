"""Files that are whole or not there, and whose damage is noticed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from analyze.errors import InputError

DIGEST = hashlib.sha256().digest_size


def write_sealed(path: Path, content: bytes) -> None:
    """Write content behind its SHA-256, to a temporary file that takes the place of ``path``.

    The file is synced before it is renamed and its directory after, so that a power cut leaves
    the old file or the new one.

    Raises:
        InputError: no permission, or the disk is full; the old file is as it was.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(".part", path.name, path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read_sealed(path: Path) -> bytes | None:
    """The content of a sealed file; None where there is none, or a byte of it is damaged."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    content = sealed[DIGEST:]
    return content if hashlib.sha256(content).digest() == sealed[:DIGEST] else None


def sync_directory(path: Path) -> None:
    """Make a rename in a directory survive a power cut, where the system can."""
    if os.name != "posix":  # Windows cannot open directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> InputError:
    """What to say when the units cannot be written."""
    return InputError(
        "a unit of the run cannot be written",
        found=f"{path}: {error.strerror or error}",
        expected="a directory with write permission and enough space; finished units are kept",
        fix="make room and run the same command again, or --output RESULTS.h5 elsewhere",
    )
