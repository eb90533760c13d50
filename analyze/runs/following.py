"""Following a training that goes on: new checkpoints are measured as they come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import NAN, Checkpoint, NoCheckpointsError
from analyze.checkpoints.finding.series import in_order_with_deleted
from analyze.checkpoints.finding.watch import News, Watch
from analyze.errors import InputError
from analyze.runs.job import Job, Options, look_again, resolve
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.replay import Outcome, replay
from analyze.runs.units.folder import Folder


def first_job(watch: Watch, options: Options, progress: Progress) -> Job:
    """The job, once there is a checkpoint that can be read.

    Args:
        watch: Of the run's directory, which may be empty yet.
        options: What the user chose.
        progress: Told that we wait.

    Raises:
        InputError: what would stop any run, or none came.
    """
    problem: InputError | None = None
    for look in chain([None], watch.news()):
        try:
            job = resolve(watch.run, options)
        except NoCheckpointsError as none_yet:
            problem = none_yet
        else:
            problems = [c.problem for c in job.checkpoints if c.problem is not None]
            if len(problems) < len(job.checkpoints):
                return job
            problem = problems[0]
        if look is None:
            progress.note(f"Waiting for the first checkpoint in {watch.run}: Ctrl-C ends")
    assert problem is not None
    raise problem


def follow(
    job: Job, prepared: Prepared, watch: Watch, folder: Folder, progress: Progress
) -> Iterator[tuple[Job, list[Outcome]]]:
    """The job with all outcomes so far, again after each checkpoint that is new or has changed.

    What a training deletes after it was measured stays; what is still being written is left for
    later. Ends by Ctrl-C or SIGTERM while it waits.

    Args:
        job: With the checkpoints that were there at the start.
        prepared: With the proven engine.
        watch: Of the run's directory, from before it was looked at.
        folder: Where units are kept.
        progress: Told what happens.

    Raises:
        InputError: as ``replay`` does.
    """
    first = [*replay(job, prepared, folder, progress), *_deleted(job, folder)]
    known = {one.checkpoint.name: one for one in first}
    yield job, _in_series(job, known.values())
    progress.note(f"Waiting for new checkpoints in {job.run}: Ctrl-C ends")
    learned = replace(prepared, problems={})  # what could not be read may have become whole
    for look in watch.news():
        try:
            job = look_again(job)
        except NoCheckpointsError:  # all were deleted
            continue
        except InputError:
            if job.run.exists():
                raise
            continue  # it is away since the last look
        for checkpoint in _new(job, known, look):
            (outcome,) = replay(replace(job, checkpoints=[checkpoint]), learned, folder, progress)
            if outcome.problem is not None and not checkpoint.path.exists():
                continue  # away or deleted meanwhile: if it comes back it is new
            known[checkpoint.name] = outcome
            yield job, _in_series(job, known.values())


def _deleted(job: Job, folder: Folder) -> list[Outcome]:
    """What an earlier run has measured of checkpoints that are deleted by now."""
    root = job.run if job.run.is_dir() else job.run.parent
    units = (unit for unit in folder.units() if "step" in unit.record)  # others are of old versions
    outcomes = [Outcome(_remembered(unit.record, root), unit) for unit in units]
    return [one for one in outcomes if not one.checkpoint.path.exists()]


def _in_series(job: Job, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Outcomes in the order of their checkpoints, as those are now or were when they were there.

    A copy of one that is there, or one that is there and no longer chosen, is none of them.
    """
    outcomes = list(outcomes)
    now = {c.name: c for c in job.checkpoints}
    present = [replace(o, checkpoint=now[o.checkpoint.name])
               for o in outcomes if o.checkpoint.name in now]  # fmt: skip
    hashes = {o.unit.record["sha256"] for o in present if o.unit is not None}
    deleted = [
        o for o in outcomes
        if o.unit is not None and not o.checkpoint.path.exists()
        and o.unit.record["sha256"] not in hashes and o.checkpoint.name not in now
    ]  # fmt: skip
    by_name = {o.checkpoint.name: o for o in [*present, *_each_once(deleted)]}
    return [
        by_name[c.name] for c in in_order_with_deleted([o.checkpoint for o in by_name.values()])
    ]


def _each_once(deleted: list[Outcome]) -> list[Outcome]:
    """Of what was renamed before it was deleted the last name; equal ones of two steps are two."""
    kept: dict[tuple[str, float | None], Outcome] = {}
    for one in deleted:
        assert one.unit is not None
        step = None if math.isnan(one.checkpoint.step) else one.checkpoint.step
        sha256 = str(one.unit.record["sha256"])
        kept.pop((sha256, step), None)
        kept[sha256, step] = one
    return list(kept.values())


def _new(job: Job, known: Mapping[str, Outcome], look: News) -> list[Checkpoint]:
    """What is complete and not measured, or has changed since."""
    return [
        c for c in job.checkpoints
        if c.path in look.settled and (c.path in look.fresh or c.name not in known)
    ]  # fmt: skip


def _remembered(record: Mapping[str, Any], root: Path) -> Checkpoint:
    """A deleted checkpoint as its unit remembers it."""
    numbers = {
        key: NAN if record[key] is None else float(record[key])
        for key in ("step", "epoch", "epochs_completed", "tokens")
    }
    return Checkpoint(
        record["checkpoint"], root / record["checkpoint"], numbers["step"], numbers["epoch"],
        record["step_rule"], record["format"], record["weights_key"], record["prefix"], 0,
        None, numbers["epochs_completed"], numbers["tokens"], record["weights"],
    )  # fmt: skip
