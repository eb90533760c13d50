"""What a run is doing, in a small file beside its units, for ``analyze status``; no torch.

The file says what was so when it was written. Whether the run lives on tells its lock, which ends
with its process.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from analyze.files.whole import write_unsynced
from analyze.runs.units.files import read_sealed

ACTIVITY = "activity"  # the name of the file


@dataclass(frozen=True)
class Place:
    """The process that measures a checkpoint: its host and number, and the device it uses."""

    host: str
    process: int
    device: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, {self.device}"


@dataclass
class Running:
    """A checkpoint that is being measured."""

    place: Place
    since: float  # seconds since 1970
    examples: int = 0  # measured so far


@dataclass
class Activity:
    """What a run is doing."""

    process: int
    host: str
    since: float  # when the run began, in seconds since 1970
    stage: str = ""  # of the preparation; empty once checkpoints are measured
    end: str = ""  # how the run ended; empty while it goes on
    checkpoints: list[str] = field(default_factory=list)
    examples: int = 0  # in each checkpoint
    running: dict[str, Running] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # by name, with the reason
    measuring_since: float | None = None
    measured: int = 0  # checkpoints that this run has measured, without those of earlier runs
    written: float = 0.0  # when this was so


def write_activity(folder: Path, activity: Activity) -> None:
    """Write what a run is doing; where that fails, the run goes on all the same."""
    path = folder / ACTIVITY
    content = json.dumps(asdict(activity)).encode()
    with suppress(OSError):
        if not path.is_symlink():  # what a run writes beside its output leads nowhere else
            write_unsynced(path, sha256(content).digest(), content)


def read_activity(folder: Path) -> Activity | None:
    """What a run was doing; None where it has not said, or the file is damaged or another's."""
    content = read_sealed(folder / ACTIVITY)
    if content is None:
        return None
    try:
        return _activity(json.loads(content))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _activity(facts: dict[str, Any]) -> Activity:
    """An activity from the values of the file, each of its own type."""
    since = facts["measuring_since"]
    return Activity(
        process=int(facts["process"]),
        host=str(facts["host"]),
        since=float(facts["since"]),
        stage=str(facts["stage"]),
        end=str(facts["end"]),
        checkpoints=[str(name) for name in facts["checkpoints"]],
        examples=int(facts["examples"]),
        running={str(name): _running(entry) for name, entry in facts["running"].items()},
        done=[str(name) for name in facts["done"]],
        failed={str(name): str(why) for name, why in facts["failed"].items()},
        measuring_since=None if since is None else float(since),
        measured=int(facts["measured"]),
        written=float(facts["written"]),
    )


def _running(entry: dict[str, Any]) -> Running:
    at = entry["place"]
    place = Place(str(at["host"]), int(at["process"]), str(at["device"]))
    return Running(place, float(entry["since"]), int(entry["examples"]))
