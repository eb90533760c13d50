"""The unit of each checkpoint: found from an earlier run, or measured.

In this process, where the next checkpoint is read (hashing, mapping the file, building the model)
in a thread of its own while one is measured; or in workers, a checkpoint each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.runs.job import Job
from analyze.runs.loading import Loaded, hash_of, load
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.provenance import PROGRAM, of_a_checkpoint, versions
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import check_interruption
from analyze.runs.units.unit import Unit
from analyze.runs.workers.forks import Tell, Workers

Task = tuple[int, Mapping[str, Any]]  # index of a checkpoint, and what the engine knows by then
LOST = "{name}: the worker that measured it ended early; measured again without workers"


@dataclass(frozen=True)
class Finding:
    """What there is of a checkpoint.

    Args:
        checkpoint: Which.
        found: Its unit, or why there is none.
        is_new: Whether it was measured now.
        notes: What the engine noted at it.
    """

    checkpoint: Checkpoint
    found: Unit | CheckpointError
    is_new: bool = False
    notes: tuple[str, ...] = ()


def one_by_one(
    job: Job, prepared: Prepared, folder: Folder, progress: Progress
) -> Generator[Finding, None, None]:
    """What there is of each checkpoint, in their order, measured in this process."""
    reader = ThreadPoolExecutor(max_workers=1)

    def advance(examples: int) -> None:
        check_interruption()
        progress.advance(examples)

    try:
        for checkpoint, coming in _ahead(job, prepared, folder, reader):
            progress.checkpoint(checkpoint.name)
            yield _finding(job, prepared, checkpoint, coming.result, advance)
    finally:
        reader.shutdown(cancel_futures=True)


def side_by_side(
    job: Job,
    prepared: Prepared,
    folder: Folder,
    progress: Progress,
    workers: Workers[Task, Finding],
) -> Generator[Finding, None, None]:
    """What there is of each checkpoint, as workers find it.

    A checkpoint whose worker dies, or meets what is no fault of the checkpoint's, is measured in
    this process once the workers are gone: there is more memory then, and what is wrong is told.
    """

    def tasks() -> Iterator[Task]:
        for k, checkpoint in enumerate(job.checkpoints):
            progress.checkpoint(checkpoint.name)
            yield k, prepared.engine.state()

    lost = []
    for (k, _), finding in workers.results(tasks(), progress.advance):
        if finding is None:
            lost.append(job.checkpoints[k])
            progress.note(LOST.format(name=lost[-1].name))
        else:
            yield finding
    workers.end()
    yield from one_by_one(replace(job, checkpoints=lost), prepared, folder, progress)


def workers_for(job: Job, prepared: Prepared, folder: Folder) -> Workers[Task, Finding]:
    """Workers for ``side_by_side``, which know what this process knows now."""

    def work(task: Task, tell: Tell) -> Finding:
        k, state = task
        prepared.engine.adopt(state)
        checkpoint = job.checkpoints[k]
        read = partial(_read, job, prepared, checkpoint, folder)
        return _finding(job, prepared, checkpoint, read, tell)

    return Workers(min(prepared.division.workers, len(job.checkpoints)), work)


def _ahead(
    job: Job, prepared: Prepared, folder: Folder, reader: ThreadPoolExecutor
) -> Iterator[tuple[Checkpoint, Future[Unit | Loaded]]]:
    """Every checkpoint with what is read of it, while the one after it is being read."""
    coming: Future[Unit | Loaded] | None = None
    for k, checkpoint in enumerate(job.checkpoints):
        here = coming or reader.submit(_read, job, prepared, checkpoint, folder)
        wait([here])  # no more than the one measured and the next are held
        following = job.checkpoints[k + 1 : k + 2]
        coming = reader.submit(_read, job, prepared, following[0], folder) if following else None
        yield checkpoint, here


def _finding(
    job: Job,
    prepared: Prepared,
    checkpoint: Checkpoint,
    read: Callable[[], Unit | Loaded],
    tell: Callable[[int], None],
) -> Finding:
    """Take what is read of a checkpoint, and measure it where that is no unit."""
    try:
        found = read()
        if isinstance(found, Loaded):
            return _measured(prepared.engine, checkpoint, found, tell)
        tell(len(job.probes))
        return Finding(checkpoint, found)
    except CheckpointError as problem:
        return Finding(checkpoint, problem)


def _read(job: Job, prepared: Prepared, checkpoint: Checkpoint, folder: Folder) -> Unit | Loaded:
    """The unit of an earlier run where the checkpoint is the same, else what is to be measured.

    Raises:
        CheckpointError: it cannot be read, or could not be before.
    """
    if problem := prepared.problems.get(checkpoint.name):
        raise problem
    sha256 = hash_of(checkpoint)
    unit = folder.read(checkpoint.name, sha256)
    examples = prepared.engine.settings.examples
    if unit is not None and (unit.measurement.examples is not None or not examples):
        return unit
    return load(job, checkpoint, sha256)


def _measured(
    engine: Engine, checkpoint: Checkpoint, loaded: Loaded, tell: Callable[[int], None]
) -> Finding:
    measurement = engine.measure(loaded.model, tell)
    notes = tuple(f"{checkpoint.name}: {note}" for note in measurement.notes)
    record = {"prefix": loaded.prefix, "sha256": loaded.sha256, "version": versions()[PROGRAM]}
    state = engine.state() | {"notes": [*engine.notes, *notes]}
    unit = Unit(measurement, of_a_checkpoint(checkpoint) | record, state)
    return Finding(checkpoint, unit, is_new=True, notes=notes)
