"""One run at a time on one output."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from analyze.errors import InputError
from analyze.files.whole import is_free, lock
from analyze.runs.units.files import cannot_write

HOLDER = b"process "  # how the content of a lock's file begins
LONGEST = 1000  # bytes of that content
LOOKS = 4  # how often somebody who looks may be in the way
_held: dict[Path, IO[bytes]] = {}  # by the path of the lock; none without locks of the system


def _release_in_fork() -> None:
    """Close the lock's file in a worker, which may live a moment longer than a killed run."""
    for file in _held.values():
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_fork)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of an output; True where the file system has locks, else False.

    The lock is the system's (``flock``) and ends with the process that holds it: a killed run
    leaves a file without a lock. The file names the process that holds it, and goes with the lock;
    so does its folder, if a run that ended early has left nothing in it.

    Raises:
        InputError: another run holds it, or the file is another's.
    """
    try:
        file, supported = _locked_file(path)
    except BlockingIOError as error:
        raise _in_use(path) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):  # the disk is full: what the file says is for people
            file.truncate(0)
            file.write(HOLDER + f"{os.getpid()} on {socket.gethostname()}, since {now}".encode())
        if supported:
            _held[path] = file
        try:
            yield supported
        finally:
            _held.pop(path, None)
            if _is_at(path, file):
                _remove(path)


def check_held(path: Path) -> None:
    """Check that no other run has the lock that this process holds, or held until its removal.

    Raises:
        InputError: the folder was removed, and another run has made it anew.
    """
    file = _held.get(path)
    if file is not None and os.path.lexists(path) and not _is_at(path, file):
        raise _in_use(path)


def holder(path: Path) -> str | None:
    """Who holds a lock, as its file says; None where nobody does. Nothing is written.

    Where the file system has no locks, whoever left the file is taken to hold it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb", buffering=0)
    except OSError:  # it went with the lock
        return None
    with file:
        words = file.read(LONGEST)
        return None if is_free(file) else words.decode("utf-8", "replace")


def _locked_file(path: Path) -> tuple[IO[bytes], bool]:
    """The lock's file, and whether it is locked; made anew where its last holder removes it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # no link, no pipe
    while True:
        path.parent.mkdir(exist_ok=True)
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        try:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            if not regular or not HOLDER.startswith(file.read(len(HOLDER))):
                raise OSError(errno.EEXIST, "it is no lock that a run has made")
            supported = _locked(file)
            if _is_at(path, file):
                return file, supported
        except BaseException:
            file.close()
            raise
        file.close()


def _locked(file: IO[bytes]) -> bool:
    """Hold a lock, as ``lock`` does; those who only look hold it for an instant."""
    for _ in range(LOOKS):
        with suppress(BlockingIOError):
            return lock(file)
        time.sleep(0.05)
    return lock(file)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    """Remove the file of a lock, and its folder if that is empty then."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _in_use(path: Path) -> InputError:
    holder = "a run"
    with suppress(OSError):
        holder = path.read_text(encoding="utf-8", errors="replace") or holder
    return InputError(
        "another run writes to this output",
        found=f"{path} is held by {holder}",
        expected="one run at a time on one output",
        fix="wait for it or stop it, or give --output ANOTHER.h5",
    )
