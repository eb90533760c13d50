"""Kill every command that writes; stop runs by all that can happen to them; begin each again.

Kills: `run` with workers, without and with `--follow`, `report`, `compare`, `probes build` and
`probes show` end by SIGKILL, half of them at an instant drawn from the time that the command takes,
half just before or after they open, lock, sync, rename or remove a file; half of them over an older
product. Every file must be whole then, as it was or as it will be. The same command again must
leave what an undisturbed one leaves: the same names, the same bytes, every array bit for bit. All
processes of a killed command must end.

Faults: each trial is a run of eight checkpoints of a tiny network with the plan of an undisturbed
one. Something happens to it: a sync or rename that fails; a full disk (a small tmpfs where that may
be mounted, else a limit on the size of files); a checkpoint of which only a part is there when it
is read. What the run leaves must be readable, and the same command again must give every array.

With `--cluster-workers` and `--cluster-runs` that many are killed in a Ray on this machine, see
`scripts/crashing/clusters.py`; that needs the extra [cluster].

Torch is imported once; every run is a fork of that process, so that what happens falls into the run
(load, compute, write, collate) and not into imports. Nothing is computed before the fork.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import xarray as xr

import analyze
from analyze.checkpoints.checkpoint import Checkpoint
from analyze.gradients import engine
from analyze.gradients.threads import sharing
from analyze.gradients.threads.division import Division
from analyze.runs import loading
from analyze.runs.job import Job
from scripts.crashing import children
from scripts.crashing.children import TOLD
from scripts.crashing.clusters import kill_in_clusters
from scripts.crashing.kills import as_table, kill_all
from tests.conftest import TinyRun, make_run, small_weights
from tests.crash import assert_same_arrays

KILLS, FAULTS = 1000, 40
FAULT_KINDS = ("failing write", "full disk", "short read")
CHECKPOINTS = 8
READS = CHECKPOINTS + 3  # for the proof, and to be measured
BROKE_OFF = "BROKE OFF"
Fault = Callable[[], object]  # brought about in the child before its run begins


@dataclass
class Undisturbed:
    """A run that nothing happened to: what the others are compared with."""

    tiny: TinyRun
    calls: int  # syncs and renames

    @property
    def units(self) -> Path:
        """The folder of units, plan and configuration."""
        return Path(f"{self.tiny.output}.units")

    @property
    def results(self) -> xr.DataTree:
        """What the others must give."""
        return analyze.open_results(self.tiny.output)

    @property
    def size(self) -> int:
        """Bytes of all that it wrote."""
        files = [self.tiny.output, *self.units.iterdir()]
        return sum(path.stat().st_size for path in files)


# --- faults: each is brought about in the child, before its run begins


def nothing() -> None:
    """The run goes on."""


def fail_a_call(which: int) -> None:
    """The system fails one sync or rename of the run."""
    calls = count(1)

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            if next(calls) == which:
                raise OSError(5, "Input/output error")
            return function(*arguments)

        return called

    for place, name in ((os, "fsync"), (Path, "replace")):
        mock.patch.object(place, name, failing(getattr(place, name))).start()


def limit_files(size: int) -> None:
    """No file may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def shorten_a_read(which: int, share: float) -> None:
    """One time that a checkpoint is read, only a part of it is there."""
    fill, reads = loading.fill, count(1)

    def shortly(model: torch.nn.Module, job: Job, checkpoint: Checkpoint) -> str:
        if next(reads) != which:
            return fill(model, job, checkpoint)
        content = checkpoint.path.read_bytes()
        checkpoint.path.write_bytes(content[: int(share * len(content))])
        try:
            return fill(model, job, checkpoint)
        finally:
            checkpoint.path.write_bytes(content)

    mock.patch.object(loading, "fill", shortly).start()


# --- runs


def start(run: Path, output: Path, fault: Fault = nothing) -> int:
    """Fork a run; the process id of the child."""
    return children.start(lambda: analyze.run(run, output=output, device="cpu", folds=2), fault)


def finished(run: Path, output: Path) -> None:
    """A run that must succeed."""
    _, status = os.waitpid(start(run, output), 0)
    if status != 0:
        sys.exit(f"a run failed with status {status}")


def undisturbed(folder: Path) -> Undisturbed:
    tiny = make_run(folder)
    for seed in range(3, CHECKPOINTS):
        torch.save(small_weights(seed), tiny.path / f"step_{1000 + seed}.pt")
    finished(tiny.path, tiny.output)
    files = 3 + CHECKPOINTS  # configuration, plan, results, and a unit each
    return Undisturbed(tiny, 3 * files)  # each synced, renamed, and its directory synced


@contextmanager
def directory(size: int | None = None) -> Iterator[tuple[Path, bool]]:
    """A new directory; with a size in a file system of so many bytes, where one may be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-t", "tmpfs", "-o", f"size={size}", "none", folder]
        small = size is not None and mounted("mount", *options)
        try:
            yield Path(folder), small
        finally:
            if small:
                subprocess.run(["umount", folder], check=True)


def mounted(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # there is no such program
        return False


# --- trials: what happened, in words, to a run on an output


def failed(kind: str, fault: Fault, reference: Undisturbed, output: Path) -> str:
    """What a run makes of a fault: it must end neither by a traceback nor by a signal."""
    _, status = os.waitpid(start(reference.tiny.path, output, fault), 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, TOLD):
        return f"{kind}: {BROKE_OFF} with status {code}"
    return f"{kind}: told with exit code {TOLD}" if code else f"{kind}: the run went on"


def disturbed(
    kind: str, reference: Undisturbed, output: Path, room: int | None, draw: random.Random
) -> str:
    """What came of a run with a fault; ``room`` on the disk where that is limited otherwise."""
    fault: Fault = nothing
    if kind == "full disk" and room is not None:
        kind, fault = "limit on the size of files", partial(limit_files, room)
    elif kind == "failing write":
        fault = partial(fail_a_call, draw.randint(1, reference.calls))
    elif kind == "short read":
        fault = partial(shorten_a_read, draw.randint(1, READS), draw.random())
    return failed(kind, fault, reference, output)


def trial(reference: Undisturbed, kind: str, draw: random.Random) -> tuple[str, bool]:
    """One run with one fault, what came of it, and whether the resumed run has the same bits."""
    room = draw.randrange(reference.size // 8, reference.size) if kind == "full disk" else None
    with directory(room) as (folder, small):
        output = folder / "out.h5"
        units = Path(f"{output}.units")
        units.mkdir()
        for name in ("plan", "configuration"):  # the plan of the undisturbed run
            shutil.copy(reference.units / name, units / name)
        happened = disturbed(kind, reference, output, None if small else room, draw)
        if small:
            mounted("mount", "-o", "remount,size=64m", str(folder))
        if output.exists():
            analyze.open_results(output)  # never half of one
        finished(reference.tiny.path, output)
        try:
            assert_same_arrays(reference.results, analyze.open_results(output))
        except AssertionError as difference:
            print(f"differs after {happened}: {difference}", file=sys.stderr)
            return happened, False
        return happened, not list(folder.rglob("*.part"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/crash_test",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="how many commands are killed")
    parser.add_argument("--only", action="append", default=[], help="kill only this command")
    parser.add_argument("--faults", type=int, default=FAULTS, help="how many have each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="2: two workers; 1: none")
    parser.add_argument("--shares", type=int, help="threads that share a checkpoint, not workers")
    parser.add_argument("--cluster-workers", type=int, default=0, help="kill these in a cluster")
    parser.add_argument("--cluster-runs", type=int, default=0, help="kill runs that use a cluster")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    kills = list(kill_all(arguments.kills, draw, arguments.only)) if arguments.kills else []
    for line in as_table(kills):
        print(line)
    right = not any(row.wrong for row in kills)
    if arguments.cluster_workers or arguments.cluster_runs:
        torch.set_num_threads(1)
        killed = kill_in_clusters(arguments.cluster_workers, arguments.cluster_runs, draw)
        print(*killed.lines(), sep="\n")
        right = right and not killed.wrong and killed.begun <= killed.needed
    torch.set_num_threads(arguments.threads)
    if arguments.shares:
        shared = Division(1, arguments.threads, arguments.shares)
        mock.patch.object(engine, "divided", return_value=shared).start()
        mock.patch.object(sharing, "WORTH_SHARING", 0.0).start()
    sys.exit(0 if faults(arguments.faults, draw) and right else 1)


def faults(wanted: int, draw: random.Random) -> bool:
    """So many trials with each fault, and a table; whether nothing was wrong."""
    table, equal = Counter[str](), Counter[bool]()
    with directory() as (folder, _):
        reference = undisturbed(folder)
        for kind in FAULT_KINDS:
            for _ in range(wanted):
                happened, same = trial(reference, kind, draw)
                table[happened] += 1
                equal[same] += 1
    for line, number in sorted(table.items()):
        print(f"{line:<48}{number:>6}")
    print(f"resumed, equal {equal[True]}, not equal {equal[False]}")
    return not equal[False] and not any(BROKE_OFF in line for line in table)


if __name__ == "__main__":
    main()
