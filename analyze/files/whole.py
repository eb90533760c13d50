"""Files that are whole or not there."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from analyze.files.links import real_path
from analyze.files.locks import lock

PART = ".analyze.part"  # by which a file that is being written is known as ours
OURS = re.compile(rf"\.[a-z0-9_]{{8}}{re.escape(PART)}$")  # with what ``mkstemp`` puts before it
LONGEST = 255 - 9 - len(PART)  # bytes of a name that leave room for that of its part


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file by a temporary one that takes its place once it is complete.

    The temporary file is synced before it is renamed, so that a power cut leaves the old file or
    the new one. It is locked while it is written: what has no lock was left by a killed program.

    Args:
        path: Of the file; a link to a file is written where it points.
        parts: Its content, one after the other.

    Raises:
        OSError: no permission, or the disk is full; the old file is as it was.
    """
    path = real_path(path) if path.is_symlink() else path
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(PART, f"{path.name}.", path.parent)
        with os.fdopen(descriptor, "wb") as file:
            lock(file)
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
    """Remove what programs that were killed while they wrote ``path`` have left."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'?' * 8}{PART}"):
        drop_part(left)


def drop_parts_in(directory: Path) -> None:
    """Likewise of every file in a directory of ours."""
    for left in directory.glob(f"*{PART}"):
        drop_part(left)


def drop_part(left: Path) -> None:
    """Remove a part, unless a program is writing it, or it is none of ours."""
    if not OURS.search(left.name) or left.is_symlink() or not left.is_file():
        return
    with suppress(OSError), left.open("rb") as file:  # another's, or gone meanwhile
        lock(file)
        left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
