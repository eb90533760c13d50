"""Following a training that is still running: new checkpoints are measured as they come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, pairwise

from analyze.checkpoints.checkpoint import Checkpoint, NoCheckpointsError
from analyze.checkpoints.finding.series import in_order_with_deleted
from analyze.checkpoints.finding.watch import News, Watch
from analyze.errors import InputError
from analyze.runs.job import Job, look_again, resolve
from analyze.runs.options import Options
from analyze.runs.outcome import Outcome, checkpoint_of
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.replay import replay
from analyze.runs.units.folder import Folder


def first_job(watch: Watch, options: Options, progress: Progress) -> Job:
    """The job, once there is a checkpoint that can be read in the watched directory.

    Raises:
        InputError: what would stop any run, or no checkpoint came.
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
    prepared: Prepared, watch: Watch, folder: Folder, progress: Progress
) -> Iterator[tuple[Prepared, list[Outcome]]]:
    """The job with all outcomes so far, again after each checkpoint that is new or has changed.

    Deleted checkpoints that were measured stay; files that are still being written are left for
    later. Ends by Ctrl-C or SIGTERM while it waits. The watch must have begun before the job was
    resolved.

    Raises:
        InputError: as ``replay`` does.
    """
    job = prepared.job
    first = [*replay(prepared, folder, progress), *_deleted(job, folder)]
    known = {outcome.checkpoint.name: outcome for outcome in first}
    yield prepared, _in_series(job, known.values())
    progress.note(f"Waiting for new checkpoints in {job.run}: Ctrl-C ends")
    for look in watch.news():
        try:
            job = look_again(job)
        except NoCheckpointsError:  # all were deleted
            continue
        except InputError:
            if job.run.exists():
                raise
            continue  # the directory is away since the last look
        prepared = replace(prepared, job=job, problems={})  # an unreadable file may be whole now
        for checkpoint in _new(job, known, look):
            others = [outcome.checkpoint for outcome in known.values()]
            others = [other for other in others if other.name != checkpoint.name]
            series = prepared.in_series(in_order_with_deleted([*others, checkpoint]))
            (outcome,) = replay(series.on([checkpoint]), folder, progress)
            if outcome.problem is not None and not checkpoint.path.exists():
                continue  # deleted meanwhile: if it comes back it is new
            known[checkpoint.name] = outcome
            for before in _followed_by_another(_in_series(job, known.values())):
                if before.name in series.following:
                    (known[before.name],) = replay(series.on([before]), folder, progress)
            yield prepared, _in_series(job, known.values())


def _followed_by_another(series: list[Outcome]) -> list[Checkpoint]:
    """Checkpoints whose update led elsewhere than to the next one, where both can be read."""
    return [
        one.checkpoint for one, after in pairwise(series)
        if one.unit is not None and after.unit is not None
        and one.unit.following != after.unit.record["sha256"]
        and one.checkpoint.path.exists() and after.checkpoint.path.exists()
    ]  # fmt: skip


def _deleted(job: Job, folder: Folder) -> list[Outcome]:
    """The outcomes, from an earlier run, of checkpoints that are deleted by now."""
    root = job.run if job.run.is_dir() else job.run.parent
    units = (unit for unit in folder.units() if "step" in unit.record)  # not those of old versions
    outcomes = [Outcome(checkpoint_of(unit.record, root), unit) for unit in units]
    return [o for o in outcomes if not o.checkpoint.path.exists()]


def _in_series(job: Job, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Outcomes of present and deleted checkpoints, in the order of the series.

    Copies of present checkpoints are left out, and so are present ones that are not chosen.
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
    """Deleted checkpoints, those of equal hash and step once: the last one, as it was renamed."""
    kept: dict[tuple[str, float | None], Outcome] = {}
    for outcome in deleted:
        assert outcome.unit is not None
        step = None if math.isnan(outcome.checkpoint.step) else outcome.checkpoint.step
        sha256 = str(outcome.unit.record["sha256"])
        kept.pop((sha256, step), None)
        kept[sha256, step] = outcome
    return list(kept.values())


def _new(job: Job, known: Mapping[str, Outcome], look: News) -> list[Checkpoint]:
    """Checkpoints that are complete, and not measured yet or changed since."""
    return [
        c for c in job.checkpoints
        if c.path in look.settled and (c.path in look.fresh or c.name not in known)
    ]  # fmt: skip
