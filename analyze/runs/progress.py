"""Progress of a run on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from analyze.runs.units.activity import Place

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

    def start(self, checkpoints: Sequence[str], examples: int) -> None:
        """Begin, with the names of the checkpoints and the number of examples in each."""

    def checkpoint(self, name: str, place: Place) -> None:
        """Begin a checkpoint, in a process; again where the first that began it has failed."""

    def advance(self, examples: int, checkpoint: str = "") -> None:
        """Count examples of a checkpoint that were measured."""

    def ended(self, name: str, problem: str = "", is_new: bool = True) -> None:
        """End a checkpoint: it was measured now or by an earlier run, or it has a problem."""

    def note(self, text: str) -> None:
        """Show what the user should know."""

    def finish(self) -> None:
        """End the display."""


class Counted:
    """The examples that were measured of each checkpoint; one that is begun again counts anew."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    @property
    def begun(self) -> int:
        """The number of checkpoints that were begun."""
        return len(self._of)

    @property
    def examples(self) -> int:
        """The number of examples, of all checkpoints."""
        return sum(self._of.values())

    def begin(self, checkpoint: str) -> bool:
        """Begin a checkpoint; whether that is the first time."""
        is_first = checkpoint not in self._of
        self._of[checkpoint] = 0
        return is_first

    def add(self, examples: int, checkpoint: str) -> None:
        """Count examples of a checkpoint."""
        self._of[checkpoint] = self._of.get(checkpoint, 0) + examples


class Lines(Progress):
    """A line for each stage and each checkpoint, with rate and time left: for logs."""

    def __init__(self) -> None:
        self._stage = ""
        self.start([], 0)

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        if name != self._stage:  # the same on many checkpoints is one line
            self.note(f"{_preparing(share)}: {_label(name, place)}")
        self._stage = name

    def start(self, checkpoints: Sequence[str], examples: int) -> None:
        self._checkpoints, self._examples = len(checkpoints), examples
        self._counted = Counted()
        self._started = time.monotonic()

    def checkpoint(self, name: str, place: Place) -> None:
        if self._counted.begin(name):
            self.note(f"[{self._counted.begun}/{self._checkpoints}] {name}{self._pace()}")

    def advance(self, examples: int, checkpoint: str = "") -> None:
        self._counted.add(examples, checkpoint)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _pace(self) -> str:
        elapsed = time.monotonic() - self._started
        done = self._counted.examples
        if not done or elapsed <= 0:
            return ""
        left = (self._checkpoints * self._examples - done) * elapsed / done
        return f"  {done / elapsed:.0f} examples/s, {duration(left)} left"


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
        self._checkpoints = 0
        self._counted = Counted()

    def stage(self, name: str, place: str = "", share: float = 0.0) -> None:
        from rich.markup import escape

        self._bar.stop()
        label = escape(f"{_preparing(share)}: {_label(name, place)}")
        self._preparation.update(self._preparing, description=label, completed=share)
        self._preparation.start()
        self._preparation.refresh()

    def start(self, checkpoints: Sequence[str], examples: int) -> None:
        self._preparation.stop()
        self._checkpoints, self._counted = len(checkpoints), Counted()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.start()
        self._task = self._bar.add_task("", total=len(checkpoints) * examples, rate="")

    def checkpoint(self, name: str, place: Place) -> None:
        self._counted.begin(name)
        if self._task is not None:
            label = f"[{self._counted.begun}/{self._checkpoints}] {name}".replace("[", r"\[")
            self._bar.update(self._task, description=label, completed=self._counted.examples)

    def advance(self, examples: int, checkpoint: str = "") -> None:
        self._counted.add(examples, checkpoint)
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
