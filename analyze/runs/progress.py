"""Progress of a run on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress:
    """What a run reports while it works; this class shows nothing, as the Python functions do.

    The display ends with a ``with`` block.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        """Begin a stage of the preparation.

        Args:
            name: What is done.
            place: On which checkpoint.
            share: How much of the preparation is done.
        """

    def start(self, checkpoints: int, examples: int) -> None:
        """Begin, with the number of checkpoints and of examples in each."""

    def checkpoint(self, name: str) -> None:
        """Begin the next checkpoint."""

    def advance(self, examples: int) -> None:
        """Count examples that were measured."""

    def note(self, text: str) -> None:
        """Show what the user should know."""

    def finish(self) -> None:
        """End the display."""


class Lines(Progress):
    """A line for each stage and each checkpoint, with rate and time left: for logs."""

    def __init__(self) -> None:
        self._stage = ""
        self.start(0, 0)

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        if name != self._stage:  # the same on many checkpoints is one line
            self.note(f"{_preparing(share)}: {_label(name, place)}")
        self._stage = name

    def start(self, checkpoints: int, examples: int) -> None:
        self._checkpoints, self._examples = checkpoints, examples
        self._done = self._seen = 0
        self._started = time.monotonic()

    def checkpoint(self, name: str) -> None:
        self._seen += 1
        self.note(f"[{self._seen}/{self._checkpoints}] {name}{self._pace()}")

    def advance(self, examples: int) -> None:
        self._done += examples

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _pace(self) -> str:
        elapsed = time.monotonic() - self._started
        if not self._done or elapsed <= 0:
            return ""
        left = (self._checkpoints * self._examples - self._done) * elapsed / self._done
        return f"  {self._done / elapsed:.0f} examples/s, {duration(left)} left"


class Bar(Progress):
    """A bar for the preparation, and one over all checkpoints, with rate and time left."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self._console,
        )
        # Workers are forked meanwhile: no thread may draw it, nor may it stand between them and
        # stderr.
        self._preparation = progress.Progress(
            progress.BarColumn(bar_width=20),
            progress.TextColumn(
                "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            console=self._console, auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._preparing = self._preparation.add_task("", total=1.0)
        self._task: TaskID | None = None
        self._checkpoints = self._seen = 0

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        from rich.markup import escape

        self._bar.stop()
        label = escape(f"{_preparing(share)}: {_label(name, place)}")
        self._preparation.update(self._preparing, description=label, completed=share)
        self._preparation.start()
        self._preparation.refresh()

    def start(self, checkpoints: int, examples: int) -> None:
        self._preparation.stop()
        self._checkpoints, self._seen = checkpoints, 0
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.start()
        self._task = self._bar.add_task("", total=checkpoints * examples, rate="")

    def checkpoint(self, name: str) -> None:
        self._seen += 1
        if self._task is not None:
            label = f"[{self._seen}/{self._checkpoints}] {name}".replace("[", r"\[")
            self._bar.update(self._task, description=label)

    def advance(self, examples: int) -> None:
        if self._task is not None:
            speed = self._bar.tasks[0].speed
            rate = f"{speed:.0f} examples/s" if speed else ""
            self._bar.update(self._task, advance=examples, rate=rate)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def finish(self) -> None:
        self._preparation.stop()
        self._bar.stop()


def _preparing(share: float) -> str:
    return f"Preparing, {share:.0%}" if share else "Preparing"


def _label(name: str, place: str) -> str:
    return f"{name}, {place}" if place else name


def for_stderr() -> Progress:
    """A bar when stderr is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds_left} s" if minutes else f"{seconds_left} s"
