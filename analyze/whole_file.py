"""Files that are whole or not there."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

RANDOM = 8  # characters that ``mkstemp`` puts between name and suffix


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file by a temporary one that takes its place once it is complete.

    The temporary file is synced before it is renamed, so that a power cut leaves the old file or
    the new one.

    Args:
        path: Of the file.
        parts: Its content, one after the other.

    Raises:
        OSError: no permission, or the disk is full; the old file is as it was.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(".part", path.name, path.parent)
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp lets only the owner read
        Path(temporary).replace(path)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def drop_parts(path: Path) -> None:
    """Remove what programs that were killed while they wrote ``path`` have left.

    Only where no other program can be writing it now.
    """
    for left in path.parent.glob(f"{glob.escape(path.name)}{'?' * RANDOM}.part"):
        left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
