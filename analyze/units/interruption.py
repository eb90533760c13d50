"""Ctrl-C and SIGTERM: drop the current unit, keep the others, say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from analyze.units.folder import Folder


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user, or the system, asked the run to stop.

    Args:
        signal: Its number.
        kept: How many units are kept.
        folder: Where.
    """

    def __init__(self, signal: int, kept: int, folder: str) -> None:
        self.signal = signal
        units = "1 unit is" if kept == 1 else f"{kept} units are"
        super().__init__(
            f"Stopped: {units} kept in {folder}. The same command again goes on from there."
        )


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that no handler of errors takes for a failed checkpoint."""


@contextmanager
def interruptible(folder: Folder) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM within the block into ``Interrupted``.

    Raises:
        Interrupted: after the block was left and what it had open was closed.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main else None
    try:
        yield
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
        raise Interrupted(number, len(folder), str(folder.path)) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated
