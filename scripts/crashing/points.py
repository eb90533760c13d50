"""Named points of a command: just before it opens, renames, syncs, locks or removes a file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "tempfile.mkstemp")
WRITING = os.O_WRONLY | os.O_RDWR


def count_points(folder: Path, log: Path) -> None:
    """From now on write to a log every point at which this process changes a folder."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _at_points(folder, lambda number, name: os.write(descriptor, f"{name}\n".encode()))


def kill_at(folder: Path, which: int) -> None:
    """Kill this process just before it changes a folder for the ``which``-th time, from 0."""

    def reached(number: int, name: str) -> None:
        if number == which:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_points(folder, reached)


def _at_points(folder: Path, reached: Callable[[int, str], object]) -> None:
    """Call a function with the number and name of each point, in this process only."""
    process, number = os.getpid(), 0

    def point(name: str) -> None:
        nonlocal number
        if os.getpid() == process:
            reached(number, name)
            number += 1

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "fcntl.flock":
            point("lock")
        elif event == "open" and arguments[2] & WRITING and _inside(arguments[0], folder):
            point("open")
        elif event in EVENTS and _inside(arguments[0], folder):
            point(event.rpartition(".")[2])

    def synced(descriptor: Any) -> None:
        point("sync")
        sync(descriptor)
        point("after the sync")

    sys.addaudithook(heard)
    sync = os.fsync
    mock.patch.object(os, "fsync", synced).start()


def _inside(path: object, folder: Path) -> bool:
    return isinstance(path, str | Path) and Path(path).is_relative_to(folder)
