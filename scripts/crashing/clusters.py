"""Kill workers of a Ray cluster, and runs that use one, at random instants.

A network that takes its time measures eight checkpoints on four workers; while workers die, a
machine with two more joins. After a worker's death its checkpoint is measured once more and nothing
else is; after the death of a run the same command measures what has no unit. The results must have
every array of a run in one process, bit for bit.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

import analyze
from analyze.runs.cluster import connection
from analyze.runs.units.activity import Activity, read_activity
from analyze.runs.units.places import folder_of
from scripts.crashing import children
from tests.added_machine import added_machine
from tests.conftest import TinyRun, make_run, small_weights
from tests.crash import assert_same_arrays

CHECKPOINTS, WORKERS, ADDED = 8, 4, 2
MOST = 7  # workers that are killed in one run, each at another checkpoint
PAUSE = 0.02  # seconds between two looks at a run
SLOW = """
import os, time
from pathlib import Path
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.fc = nn.Linear(12, 5), nn.Linear(5, 3)

    def forward(self, x):
        time.sleep(0.05)
        return self.fc(self.hidden(x).relu())
"""


@dataclass
class Killed:
    """What was killed, and what came of it."""

    workers: int = 0
    runs: int = 0
    added: int = 0  # machines
    begun: int = 0  # checkpoints that were seen to begin, in runs whose workers were killed
    needed: int = 0  # as many as have to: each once, and once more after a death
    wrong: int = 0

    def lines(self) -> Iterator[str]:
        """A table."""
        yield f"workers killed {self.workers}: {self.begun} begun, of {self.needed}"
        yield f"machines added {self.added}"
        yield f"runs killed {self.runs}"
        yield f"with other arrays, or something left {self.wrong}"


def kill_in_clusters(workers: int, runs: int, draw: random.Random) -> Killed:
    """Kill so many workers and runs."""
    killed = Killed()
    with _folder() as folder, connection.own(WORKERS) as address, connection.loopback():
        series, model = _series(folder)
        alone = folder / "alone.h5"
        _finished(series, alone, model, None)
        while killed.workers < workers:
            output = folder / f"workers_{killed.workers}.h5"
            with ExitStack() as machines:
                died = _kill_workers(series, output, model, address, draw, killed, machines)
            killed.workers += died
            killed.wrong += not _same(alone, output)
            print(*killed.lines(), sep="; ", file=sys.stderr)
        for number in range(runs):
            output = folder / f"runs_{number}.h5"
            process = _start(series, output, model, address)
            _wait_for(output, process, draw.randrange(CHECKPOINTS))
            time.sleep(draw.random())
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            killed.runs += 1
            _finished(series, output, model, address)
            killed.wrong += not _same(alone, output)
            print(*killed.lines(), sep="; ", file=sys.stderr)
    return killed


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _series(folder: Path) -> tuple[TinyRun, str]:
    series = make_run(folder)
    for seed in range(3, CHECKPOINTS):
        torch.save(small_weights(seed), series.path / f"step_{1000 + seed}.pt")
    (folder / "slow.py").write_text(SLOW)
    return series, f"{folder / 'slow.py'}:Slow"


def _start(series: TinyRun, output: Path, model: str, address: str | None) -> int:
    def run() -> None:
        analyze.run(series.path, output=output, model=model, device="cpu", folds=1, cluster=address)

    return children.start(run, lambda: None)


def _finished(series: TinyRun, output: Path, model: str, address: str | None) -> None:
    _, status = os.waitpid(_start(series, output, model, address), 0)
    if status:
        sys.exit(f"a run failed with status {status}")


def _kill_workers(
    series: TinyRun, output: Path, model: str, address: str, draw: random.Random, killed: Killed,
    machines: ExitStack,
) -> int:  # fmt: skip
    """Measure the series, kill a worker now and then, add a machine; how many were killed."""
    process, dead, begun = _start(series, output, model, address), set[str](), set[object]()
    joins_after = draw.randrange(MOST)
    wait_until = time.monotonic()
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        time.sleep(PAUSE)
        now = read_activity(folder_of(output))
        if now is None:
            continue
        begun |= {(name, entry.place.process, entry.since) for name, entry in now.running.items()}
        left = [name for name in now.running if name not in dead]
        if left and len(dead) < MOST and time.monotonic() > wait_until:
            name = draw.choice(left)
            with suppress(ProcessLookupError):
                os.kill(now.running[name].place.process, signal.SIGKILL)
                dead.add(name)
            if len(dead) > joins_after:
                joins_after = MOST
                machines.enter_context(added_machine(address, ADDED))
                killed.added += 1
            wait_until = time.monotonic() + draw.random() * 2
    killed.begun += len(begun)
    killed.needed += CHECKPOINTS + len(dead)
    return len(dead)


def _wait_for(output: Path, process: int, done: int) -> Activity | None:
    """Wait until so many checkpoints are measured, or the run has ended."""
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = read_activity(folder_of(output))
        if now is not None and now.running and len(now.done) >= done:
            return now
        time.sleep(PAUSE)
    return None


def _same(alone: Path, output: Path) -> bool:
    try:
        assert_same_arrays(analyze.open_results(alone), analyze.open_results(output))
    except AssertionError as difference:
        print(f"{output.name}: {difference}", file=sys.stderr)
        return False
    return not list(folder_of(output).glob("*.part"))
