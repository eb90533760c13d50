"""Files that are whole or not there; where links lead, and locks that end with their process.

There is one way of writing: a temporary file beside the target, locked while it is written, synced,
and renamed. What a killed program has left of it has no lock, and the next one removes it.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Content = Iterable[bytes | memoryview]

PART = ".analyze.part"  # the ending of our files that are being written
OURS = re.compile(rf"\.[a-z0-9_]{{8}}{re.escape(PART)}$")  # with what ``mkstemp`` puts before it


def real_path(path: Path) -> Path:
    """The path without links; as it stands where one of them cannot be read, or it is no path.

    Path.resolve raises on links in a circle before Python 3.13, and os.path.realpath on links of
    others, such as those in /proc, and on what no file system can write, such as NUL.
    """
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(os.path.abspath(path))  # noqa: PTH100


def destination(path: Path) -> Path:
    """The file that is written: a link to a file is written where it points."""
    return real_path(path) if path.is_symlink() else path


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


def is_free(file: IO[Any]) -> bool:
    """Whether no program holds a file by ``lock``; False where nobody can tell.

    It is held for an instant, together with others who only look.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or a network file system without locks
        return False
    return True


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write one file as ``write_together`` does."""
    write_together({path: parts})


def write_unsynced(path: Path, *parts: bytes | memoryview) -> None:
    """Write one file whole, but not to survive a power cut; for what is written every second.

    Raises:
        OSError: no permission, or the disk is full.
    """
    with ExitStack() as stack:
        _written(stack, path, parts, synced=False).replace(path)


def write_together(files: Mapping[Path, Content]) -> None:
    """Write files by temporary ones that take their places once all of them are complete.

    Temporary files are synced before they are renamed, in the order of the files, so that a power
    cut leaves an old file or a new one. A full disk, or a mistake of ours, leaves all old ones.

    Raises:
        OSError: no permission, or the disk is full.
    """
    with ExitStack() as stack:
        targets = {destination(path): content for path, content in files.items()}
        parts = {target: _written(stack, target, content) for target, content in targets.items()}
        for target, part in parts.items():
            part.replace(target)
        for directory in dict.fromkeys(target.parent for target in targets):
            _sync_directory(directory)


def new_part(stack: ExitStack, target: Path) -> tuple[IO[bytes], Path]:
    """A new temporary file beside a target, which is locked and goes with the stack.

    Raises:
        OSError: none can be made.
    """
    while True:
        descriptor, name = tempfile.mkstemp(PART, f"{target.name}.", target.parent)
        stack.callback(Path(name).unlink, missing_ok=True)
        file = stack.enter_context(os.fdopen(descriptor, "wb"))
        with suppress(BlockingIOError):
            lock(file)
            if os.fstat(descriptor).st_nlink:  # else one that cleans up came before our lock
                return file, Path(name)


def _written(stack: ExitStack, target: Path, content: Content, synced: bool = True) -> Path:
    """A temporary file with all of the content."""
    file, part = new_part(stack, target)
    for piece in content:
        file.write(piece)
    file.flush()
    if synced:
        os.fsync(file.fileno())
    mask = os.umask(0)  # the only way to ask for it
    os.umask(mask)
    part.chmod(0o666 & ~mask)  # mkstemp lets only the owner read
    return part


def _sync_directory(path: Path) -> None:
    """Make a rename in a directory survive a power cut, where the system can.

    Where it cannot, a power cut leaves the old file: as whole as the new one.
    """
    if os.name != "posix":  # Windows cannot open directories
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drop_parts(path: Path) -> None:
    """Remove what programs that were killed while they wrote ``path`` have left."""
    target = destination(path)
    for left in target.parent.glob(f"{glob.escape(target.name)}.{'?' * 8}{PART}"):
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
