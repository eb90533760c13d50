"""Ctrl-C and SIGTERM: drop the current unit, keep the others, say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from analyze.runs.units.folder import Folder


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user, or the system, asked the run to stop.

    Args:
        signal: The number of the signal.
        kept: The number of units that are kept.
        folder: The folder of the units.
    """

    def __init__(self, signal: int, kept: int, folder: str) -> None:
        self.signal = signal
        units = "1 unit is" if kept == 1 else f"{kept} units are"
        super().__init__(
            f"Stopped: {units} kept in {folder}. The same command again goes on from there."
        )


class _Asked(KeyboardInterrupt):
    """A signal, as an exception that no handler of errors takes for a failed checkpoint."""


_came: list[int] = []  # the numbers of the signals


@contextmanager
def interruptible(folder: Folder) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM within the block into ``Interrupted``, raised after its cleanup."""
    main = threading.current_thread() is threading.main_thread()
    before = {}
    if main:
        _came.clear()
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_signal)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, _on_signal)
    try:
        yield
    except KeyboardInterrupt:
        number = _came[-1] if _came else int(signal.SIGINT)
        raise Interrupted(number, len(folder), str(folder.path)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_interruption() -> None:
    """Raise ``KeyboardInterrupt`` for a signal whose exception was lost, as in a destructor."""
    if _came and threading.current_thread() is threading.main_thread():
        raise _Asked


def _on_signal(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise _Asked
