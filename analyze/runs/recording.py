"""What a run shows is written down beside its units as well, where ``analyze status`` finds it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from analyze.errors import first_line
from analyze.runs.progress import Progress
from analyze.runs.units.activity import ACTIVITY, Activity, Place, Running, write_activity

PAUSE = 1.0  # seconds between two files that differ in counts of examples only
SHARE = 0.1  # of the time, at most, is spent on writing


class Recorded(Progress):
    """Shows what another display shows, and writes it down from ``begin`` to ``end``."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._folder: Path | None = None
        self._activity = Activity(os.getpid(), socket.gethostname(), time.time())
        self._written = self._cost = 0.0

    @contextmanager
    def beside(self, folder: Path) -> Iterator[None]:
        """Write within the block, in the folder of the units, whose lock is held."""
        self._folder = folder
        self._write(always=True)
        try:
            yield
            self._activity.end = "complete"
        except BaseException as error:
            self._activity.end = first_line(error) if str(error) else "stopped by a signal"
            raise
        finally:
            self._activity.running.clear()
            self._write(always=True)
            if not (folder / "configuration").exists():  # nothing to go on from
                (folder / ACTIVITY).unlink(missing_ok=True)
            self._folder = None

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        self._shown.stage(name, place, share)
        self._activity.stage = f"{name}, {place}" if place else name
        self._write()

    def start(self, checkpoints: Sequence[str], examples: int) -> None:
        self._shown.start(checkpoints, examples)
        now = self._activity
        now.stage, now.examples = "", examples
        now.checkpoints = list(dict.fromkeys([*now.checkpoints, *checkpoints]))
        now.done = [name for name in now.done if name not in checkpoints]
        now.measuring_since = now.measuring_since or time.time()
        self._write()

    def checkpoint(self, name: str, place: Place) -> None:
        self._shown.checkpoint(name, place)
        self._activity.running[name] = Running(place, time.time())
        self._write()

    def advance(self, examples: int, checkpoint: str = "") -> None:
        self._shown.advance(examples, checkpoint)
        if checkpoint in self._activity.running:
            self._activity.running[checkpoint].examples += examples
        if time.monotonic() - self._written > PAUSE:
            self._write()

    def ended(self, name: str, problem: str = "", is_new: bool = True) -> None:
        self._shown.ended(name, problem, is_new)
        now = self._activity
        now.running.pop(name, None)
        now.failed.pop(name, None)
        if problem:
            now.failed[name] = problem
        else:
            now.done.append(name)
            now.measured += is_new
        self._write()

    def note(self, text: str) -> None:
        self._shown.note(text)

    def finish(self) -> None:
        self._shown.finish()

    def _write(self, always: bool = False) -> None:
        """Write what is so now, unless too much of the time would go into that."""
        now = time.monotonic()
        too_soon = now - self._written < self._cost / SHARE and not always
        if self._folder is None or too_soon:
            return
        self._activity.written = time.time()
        write_activity(self._folder, self._activity)
        self._written = time.monotonic()
        self._cost = self._written - now
