"""Watch the directory of a training that goes on for checkpoints that are new and complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from analyze.checkpoints.finding.tree import look_through
from analyze.files.walking import walk

INTERVAL = 5.0  # seconds between looks; what stood still for as long is taken to be complete
# Size, times of change and number of each file. Compared for being the same, never for what is
# older: clocks jump, and file systems have clocks of their own.
State = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class News:
    """The files and directories that one look at the run showed."""

    fresh: frozenset[Path]  # settled, and new or changed since they were fresh last
    settled: frozenset[Path]  # unchanged for one interval


class Watch:
    """Looks at a directory again and again, and reports each file once; those of now are no news.

    The watch ends after ``patience`` seconds without news, or never where that is None.
    """

    def __init__(self, run: Path, patience: float | None) -> None:
        self.run = run
        self._patience = patience
        self._reported = _states(run)

    def news(self) -> Iterator[News]:
        """News, whenever there is some; Ctrl-C or SIGTERM while it waits ends it, too."""
        before: dict[Path, State] = {}
        since = monotonic()
        while self._patience is None or monotonic() - since < self._patience:
            try:
                if not self.run.exists():  # unmounted, or away for another reason: it may return
                    sleep(INTERVAL)
                    continue
                now = _states(self.run)
                settled = frozenset(path for path in now if before.get(path) == now[path])
                fresh = frozenset(path for path in settled if self._reported.get(path) != now[path])
                if not fresh:
                    sleep(INTERVAL)
            except KeyboardInterrupt:
                return
            before = now
            if fresh:
                self._reported |= {path: now[path] for path in fresh}
                yield News(fresh, settled)
                since = monotonic()


def _states(run: Path) -> dict[Path, State]:
    """The state of every file and directory of a run that may be a checkpoint."""
    return {path: _state(path) for path in look_through(run).candidates}


def _state(path: Path) -> State:
    files = [path]
    if path.is_dir():
        files = sorted(place / name for place, _, names in walk(path) for name in names)
    states = []
    for file in files:
        try:
            status = file.stat()
        except OSError:  # gone meanwhile: the next look shows it
            continue
        # The time of change of the inode as well: a file can be filled in later, and keep its time.
        changed = (status.st_mtime_ns, status.st_ctime_ns)
        states.append((file.name, status.st_size, *changed, status.st_ino))
    return tuple(states)
