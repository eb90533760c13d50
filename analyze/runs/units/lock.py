"""One run at a time on one output."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from analyze.errors import InputError
from analyze.files.whole import lock
from analyze.runs.units.files import cannot_write

_held: set[IO[str]] = set()


def _release_in_fork() -> None:
    """Close the lock's file in a worker, which may live a moment longer than a killed run."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_fork)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of an output; True where the file system has locks, else False.

    The lock is the system's (``flock``) and ends with the process that holds it: a killed run
    leaves a file without a lock. The file names the process that holds it.

    Raises:
        InputError: another run holds it.
    """
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            supported = lock(file)
        except BlockingIOError as error:
            raise InputError(
                "another run writes to this output",
                found=f"{path} is held by {path.read_text(encoding='utf-8') or 'a run'}",
                expected="one run at a time on one output",
                fix="wait for it or stop it, or give --output ANOTHER.h5",
            ) from error
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}")
        file.flush()
        _held.add(file)
        try:
            yield supported
        finally:
            _held.discard(file)
