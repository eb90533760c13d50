"""Files that are whole or not there; where links lead, and locks that end with their process."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = ".analyze.part"  # the ending of our files that are being written
OURS = re.compile(rf"\.[a-z0-9_]{{8}}{re.escape(PART)}$")  # with what ``mkstemp`` puts before it
LONGEST = 255 - 9 - len(PART)  # bytes of a name, so that its temporary file's name fits


def real_path(path: Path) -> Path:
    """The path without links. Path.resolve raises on links in a circle before Python 3.13."""
    return Path(os.path.realpath(path))


def lock(file: IO[Any]) -> bool:
    """Hold a file while it is open; False where the system or the file system has no locks.

    Raises:
        BlockingIOError: another program holds it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a network file system without locks
        return False
    return True


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file by a temporary one that takes its place once it is complete.

    The temporary file is synced before it is renamed, so that a power cut leaves the old file or
    the new one. It is locked while it is written: what has no lock was left by a killed program.

    A link to a file is written where it points.

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
            mask = os.umask(0)  # the only way to ask for it
            os.umask(mask)
            Path(temporary).chmod(0o666 & ~mask)  # mkstemp lets only the owner read
            Path(temporary).replace(path)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def drop_parts(path: Path) -> None:
    """Remove what programs that were killed while they wrote ``path`` have left."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'?' * 8}{PART}"):
        drop_part(left)


def drop_parts_in(directory: Path) -> None:
    """Remove what killed programs have left of any file in a directory of ours."""
    for left in directory.glob(f"*{PART}"):
        drop_part(left)


def drop_part(left: Path) -> None:
    """Remove a temporary file of ours, unless a program is writing it."""
    if not OURS.search(left.name) or left.is_symlink() or not left.is_file():
        return
    with suppress(OSError), left.open("rb") as file:  # another's, or gone meanwhile
        lock(file)
        left.unlink(missing_ok=True)
