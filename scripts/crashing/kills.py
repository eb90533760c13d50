"""Kill each command that writes, begin it again, and look at every file that is there."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from analyze.files.whole import OURS
from scripts.crashing import children
from scripts.crashing.commands import Command, commands, same
from scripts.crashing.points import count_points, kill_at

WRONG = ("half written", "not resumed", "not equal", "leftovers", "processes left")
ALLOWED = ("lock",)  # beside temporary files, before the command is begun again


@dataclass
class Trials:
    """What came of the kills of one command."""

    command: Command
    killed: Counter[str] = field(default_factory=Counter)  # by the way in which it was
    parts: int = 0  # killed commands that left temporary files
    wrong: Counter[str] = field(default_factory=Counter)


class Undisturbed:
    """How long a command takes, the points at which it changes files, and what it leaves."""

    def __init__(self, command: Command, place: Path) -> None:
        self.command, self.place = command, place
        self.results = {over: self._reference(over) for over in (False, True)}
        log = place / "points"
        with self.trial(over=False) as folder:
            child = children.start(lambda: command.call(folder), lambda: count_points(folder, log))
            assert children.exit_code(child) == 0, f"{command.name} failed"
        self.points = log.read_text().splitlines()
        self.duration = 0.0
        with self.trial(over=False) as folder:
            started = time.monotonic()
            assert children.exit_code(children.start(lambda: command.call(folder))) == 0
            self.duration = time.monotonic() - started

    def _reference(self, over: bool) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.place)) / "reference"
        self._begin(folder, over)
        if self.command.name.startswith("run"):  # torch may not have computed before a fork
            assert children.exit_code(children.start(lambda: self.command.call(folder))) == 0
        else:
            self.command.call(folder)
        return folder

    def _begin(self, folder: Path, over: bool) -> None:
        """Make a folder with what lies there before the command."""
        before = self.command.older if over else self.command.begin
        if before is None:
            folder.mkdir()
        else:
            shutil.copytree(before, folder)

    @contextmanager
    def trial(self, over: bool) -> Iterator[Path]:
        """A folder for one trial, with an older product in it or not."""
        with tempfile.TemporaryDirectory(dir=self.place) as place:
            folder = Path(place) / "trial"
            self._begin(folder, over)
            yield folder


def kill_all(kills: int, draw: random.Random, chosen: Collection[str] = ()) -> Iterator[Trials]:
    """So many kills over all commands, as their shares say; half of them at named points.

    Only the chosen commands, if any are, have their shares of them.
    """
    children.adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with tempfile.TemporaryDirectory() as place:
        for command in commands(Path(place), chosen):
            with command.prepared():
                undisturbed = Undisturbed(command, Path(place))
                trials = Trials(command)
                while trials.killed.total() < max(1, round(command.share * kills)):
                    _trial(undisturbed, trials, draw)
                yield trials
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _trial(undisturbed: Undisturbed, trials: Trials, draw: random.Random) -> None:
    """One kill, unless the command ends before it, and what came of it."""
    command, over = undisturbed.command, draw.random() < 0.5
    with undisturbed.trial(over) as folder:
        if draw.random() < 0.5:
            way = _killed_at_a_point(undisturbed, folder, draw)
        else:
            way = _killed_at_an_instant(undisturbed, folder, draw)
        if not children.orphans_end():
            trials.wrong["processes left"] += 1
        if way is None:
            return
        trials.killed[way] += 1
        parts = [path for path in _files(folder) if OURS.search(path)]
        trials.parts += bool(parts)
        for problem in _problems(undisturbed, folder, over):
            trials.wrong[problem] += 1
            print(f"{command.name}, {way}: {problem}", file=sys.stderr)


def _killed_at_an_instant(
    undisturbed: Undisturbed, folder: Path, draw: random.Random
) -> str | None:
    """Drawn from the time that the command takes now: other work comes and goes."""
    started = time.monotonic()
    child = children.start(lambda: undisturbed.command.call(folder))
    if children.killed_after(child, draw.uniform(0, undisturbed.duration)):
        return "at an instant"
    undisturbed.duration = time.monotonic() - started
    return None


def _killed_at_a_point(undisturbed: Undisturbed, folder: Path, draw: random.Random) -> str | None:
    which = draw.randrange(len(undisturbed.points))
    command = undisturbed.command
    child = children.start(lambda: command.call(folder), lambda: kill_at(folder, which))
    return f"at the point {undisturbed.points[which]!r}" if children.exit_code(child) < 0 else None


def _problems(undisturbed: Undisturbed, folder: Path, over: bool) -> Iterator[str]:
    """What is wrong after a kill, and after the same command again."""
    reference = undisturbed.results[over]
    before = [undisturbed.command.begin, undisturbed.command.older][over]
    whole = [place for place in (reference, before) if place is not None]
    whole += undisturbed.command.meanwhile
    for name in _files(folder):
        if OURS.search(name) or Path(name).name in ALLOWED or (folder / name).is_dir():
            continue
        places = [place / name for place in whole]
        if not any(place.exists() and same(folder / name, place) for place in places):
            yield "half written"
    again = children.start(lambda: undisturbed.command.call(folder))
    if children.exit_code(again) != 0:
        yield "not resumed"
    if _files(folder) != _files(reference):
        yield "leftovers"
    elif not all(same(folder / name, reference / name) for name in _files(folder)):
        yield "not equal"


def _files(folder: Path) -> list[str]:
    """The files below a folder, and directories that are empty, by their names in it."""
    paths = [p for p in folder.rglob("*") if not p.is_dir() or not any(p.iterdir())]
    return sorted(str(path.relative_to(folder)) for path in paths)


def as_table(trials: list[Trials]) -> Iterator[str]:
    """Lines for the terminal."""
    yield f"{'command':<20}{'killed':>8}{'instants':>10}{'points':>8}{'left parts':>12}  wrong"
    for row in trials:
        instants = row.killed["at an instant"]
        points = row.killed.total() - instants
        wrong = ", ".join(f"{n} {w}" for w, n in sorted(row.wrong.items())) or "none"
        yield (
            f"{row.command.name:<20}{row.killed.total():>8}{instants:>10}{points:>8}"
            f"{row.parts:>12}  {wrong}"
        )
    total = sum(row.killed.total() for row in trials)
    faults = sum(row.wrong.total() for row in trials)
    yield f"{total} commands killed, {faults} with anything wrong"
