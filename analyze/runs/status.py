"""``status``: what a run has done, is doing and has left, from the files beside its output."""

from __future__ import annotations

import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from analyze.errors import InputError
from analyze.files.permission import barrier
from analyze.files.present import is_file, is_folder
from analyze.files.targets import UNITS
from analyze.files.whole import real_path
from analyze.runs.units.activity import Activity, Running, read_activity
from analyze.runs.units.lock import holder
from analyze.runs.units.places import folder_of, unit_name

STARTING, PREPARING, MEASURING = "starting", "preparing", "measuring"
COMPLETE, STOPPED = "complete", "stopped"
KILLED = "its process ended without a word"


@dataclass(frozen=True)
class RunningCheckpoint:
    """A checkpoint that is being measured, and where."""

    checkpoint: str
    host: str
    process: int
    device: str
    seconds: float  # since it was begun
    share: float  # of its examples that are measured


@dataclass(frozen=True)
class Status:
    """What a run has done, is doing and has left.

    Args:
        output: The results file.
        state: ``starting``, ``preparing``, ``measuring``, ``complete`` or ``stopped``.
        detail: The stage of the preparation, or how a stopped run ended.
        by: The process that writes, or wrote, the results.
        checkpoints: The number of checkpoints.
        done: The number of those whose unit is there.
        running: Those that are being measured now.
        failed: Those without a unit, with the reason, by name.
        left: The number of those that are neither done, running nor failed.
        seconds: Since the run began; None where it is over.
        seconds_left: Estimated from what this run has measured; None where that is nothing yet.
    """

    output: str
    state: str
    detail: str
    by: str
    checkpoints: int
    done: int
    running: tuple[RunningCheckpoint, ...]
    failed: dict[str, str]
    left: int
    seconds: float | None
    seconds_left: float | None


def status(results: str | Path) -> Status:
    """What a run has done, is doing and has left; it may be going on, on any machine, or over.

    Nothing is written. Whether the run goes on tells its lock, which ends with its process.

    Args:
        results: The results file, which may not be there yet; its units are beside it.

    Returns:
        Units done, running, failed and left.

    Raises:
        InputError: no run has begun here.

    Example:
        ``analyze.status("half_noise.h5").left``
    """
    if not isinstance(results, str | os.PathLike):
        raise _no_path(results)
    output = Path(results)
    folder = folder_of(output)
    holding = holder(folder / "lock")
    activity = read_activity(folder)
    if activity is None:
        if holding is None:
            raise _none_here(output, folder)
        activity = Activity(process=0, host="", since=time.time())
    state, detail = _state(activity, holding)
    going_on = state in (STARTING, PREPARING, MEASURING)
    # The unit of one that has just been measured is on its way to the disk.
    there = None if going_on else {path.name for path in folder.glob("*.unit")}
    done = {name for name in activity.done if there is None or unit_name(name) in there}
    running = activity.running if state == MEASURING else {}
    left = len(activity.checkpoints) - len(done | {*running, *activity.failed})
    by = f"process {activity.process} on {activity.host}"
    return Status(
        output=str(output),
        state=state,
        detail=detail,
        by=holding.partition(",")[0] if holding is not None else by,
        checkpoints=len(activity.checkpoints),
        done=len(done),
        running=tuple(_running(name, entry, activity) for name, entry in running.items()),
        failed=dict(activity.failed),
        left=left,
        seconds=time.time() - activity.since if going_on else None,
        seconds_left=_seconds_left(activity, left) if state == MEASURING else None,
    )


def _no_path(given: object) -> InputError:
    return InputError(
        "the run is named by the path of its results",
        found=f"a value of type {type(given).__name__}",
        expected="the path of a results file, which may not be there yet",
        fix='analyze.status("half_noise.h5")',
    )


def _none_here(output: Path, folder: Path) -> InputError:
    if is_file(output):
        return InputError(
            "the run of these results has left no units",
            found=f"{output} without {folder}",
            expected="the folder of its units, which a run keeps beside its results",
            fix=f"analyze show {output}",
        )
    return InputError(
        "no run has begun here",
        found=f"neither {output} nor {folder} with a run's files{barrier(output)}",
        expected="the --output of an analyze run; by default it is RUN.h5 in its directory",
        fix=f"analyze status {_meant(output)}",
    )


def _meant(output: Path) -> str:
    """The results file of a directory: of its units, or of the run of its name."""
    if output.name.endswith(UNITS):
        return shlex.quote(str(output.with_suffix("")))
    return shlex.quote(f"{real_path(output).name}.h5") if is_folder(output) else "OUT.h5"


def _state(activity: Activity, holding: str | None) -> tuple[str, str]:
    """The state of a run, and what there is to say of it; a lock says whether it goes on."""
    own = f"process {activity.process} on {activity.host},"
    if holding is not None and not holding.startswith(own):
        return STARTING, ""  # and what the file says is of the run before
    if holding is None or _is_gone(activity):
        if activity.end == COMPLETE:
            return COMPLETE, ""
        return STOPPED, activity.end or KILLED
    if activity.end:  # the lock goes in a moment
        return COMPLETE if activity.end == COMPLETE else STOPPED, activity.end
    return (PREPARING, activity.stage) if activity.stage else (MEASURING, "")


def _is_gone(activity: Activity) -> bool:
    """Whether the process has ended, as far as this machine can tell; where there are no locks."""
    if activity.host != socket.gethostname():
        return False
    try:
        os.kill(activity.process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False


def _running(name: str, entry: Running, activity: Activity) -> RunningCheckpoint:
    place = entry.place
    return RunningCheckpoint(
        name,
        place.host,
        place.process,
        place.device,
        time.time() - entry.since,
        min(1.0, entry.examples / activity.examples) if activity.examples else 0.0,
    )


def _seconds_left(activity: Activity, left: int) -> float | None:
    """The time that is left at the pace so far; what passed since the file was written counts."""
    running = sum(entry.examples for entry in activity.running.values())
    measured = activity.measured * activity.examples + running
    if not measured or activity.measuring_since is None:
        return None
    rest = (left + len(activity.running)) * activity.examples - running
    pace = (activity.written - activity.measuring_since) / measured  # seconds per example
    return max(0.0, rest * pace - (time.time() - activity.written))
