"""The outcome of each checkpoint: its unit of an earlier run, or a measurement.

This process measures, while a thread reads the next checkpoint (hashes the file, which is then in
the system's memory); or workers do, each a checkpoint of its own. No model is built or filled in
that thread: random numbers, their seeds and torch's default type belong to the whole process, where
the measurement beside it would find them changed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.gradients.ranks.team import Team
from analyze.runs.commission import Task
from analyze.runs.loading import Loaded, Snapshot, hash_of, load
from analyze.runs.messages import Advanced, Begun, place_of, showing
from analyze.runs.outcome import Outcome, record_of
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.protocol import Tell
from analyze.runs.provenance import PROGRAM, device_name, versions
from analyze.runs.units.folder import Folder
from analyze.runs.units.unit import FOLLOWING, Unit
from analyze.runs.workers import Workers

Found = TypeVar("Found")
Measure = Callable[[Engine, Checkpoint, Loaded, Tell], Outcome]
LOST = "{name}: the worker that measured it ended early; measured again without workers"


class Pool(Protocol):
    """Processes that measure checkpoints; what differs between them is where they are."""

    def results(
        self, tasks: Iterable[Task], receive: Tell
    ) -> Iterator[tuple[Task, Outcome | Kept | None]]:
        """Every task with its result, in the order in which they are done.

        The result is None for a task that this process has to do. A task is asked for when it can
        soon begin; ``receive`` is called with each message.
        """

    def end(self) -> None:
        """End all of them, whatever they are doing."""


def one_by_one(
    prepared: Prepared, folder: Folder, progress: Progress, measure: Measure | None = None
) -> Generator[Outcome, None, None]:
    """The outcome of each checkpoint, in their order, measured in this process.

    ``measure`` does it in place of ``measured``, on all ranks of a launch.
    """
    reader = ThreadPoolExecutor(max_workers=1)
    try:
        for checkpoint, coming in _ahead(prepared, folder, reader):
            tell, examples = showing(progress), prepared.examples
            read = partial(_kept_or_loaded, prepared, coming)
            yield outcome_of(prepared.engine, examples, checkpoint, read, tell, measure)
    finally:
        reader.shutdown(cancel_futures=True)


def side_by_side(
    prepared: Prepared, folder: Folder, progress: Progress, workers: Pool
) -> Generator[Outcome, None, None]:
    """The outcome of each checkpoint, in the order in which workers are done.

    A checkpoint without a result is measured in this process once the workers are gone, where there
    is more memory and errors show.
    """

    def tasks() -> Iterator[Task]:
        for checkpoint in prepared.job.checkpoints:
            unit = folder.kept(checkpoint.name)
            holds = unit is not None and _holds(unit, checkpoint, prepared)
            kept = str(unit.record["sha256"]) if unit is not None and holds else None
            following = prepared.following.get(checkpoint.name)
            yield Task(checkpoint, prepared.engine.state(), kept, following)

    lost = []
    for task, result in workers.results(tasks(), showing(progress)):
        outcome = result.from_folder(folder) if isinstance(result, Kept) else result
        if outcome is None:
            lost.append(task.checkpoint)
            progress.note(LOST.format(name=task.checkpoint.name))
        else:
            yield outcome
    workers.end()
    yield from one_by_one(prepared.on(lost), folder, progress)


@dataclass(frozen=True)
class Kept:
    """A checkpoint that has not changed since an earlier run measured it."""

    checkpoint: Checkpoint
    sha256: str

    def from_folder(self, folder: Folder) -> Outcome | None:
        """Its outcome; None where the unit is no longer there."""
        unit = folder.read(self.checkpoint.name, self.sha256)
        return None if unit is None else Outcome(self.checkpoint, unit)


def result_of(prepared: Prepared, task: Task, tell: Tell) -> Outcome | Kept:
    """What a worker makes of a task."""
    prepared.engine.restore(task.state)
    checkpoint = task.checkpoint

    def read() -> Kept | Loaded:
        snapshot = _snapshot(prepared, checkpoint)
        if snapshot.sha256 == task.kept:
            return Kept(checkpoint, snapshot.sha256)
        return load(prepared.job, snapshot, task.following)

    return outcome_of(prepared.engine, prepared.examples, checkpoint, read, tell)


def forks_for(prepared: Prepared) -> Workers[Task, Outcome | Kept]:
    """Workers for ``side_by_side``, each a copy of this process as it is now."""
    count = min(prepared.division.workers, len(prepared.job.checkpoints))
    return Workers(count, partial(result_of, prepared))


def _ahead(
    prepared: Prepared, folder: Folder, reader: ThreadPoolExecutor
) -> Iterator[tuple[Checkpoint, Future[Outcome | Snapshot]]]:
    """Each checkpoint and what was found of it, while a thread reads the next one."""
    checkpoints = prepared.job.checkpoints
    coming = [reader.submit(_read, prepared, first, folder) for first in checkpoints[:1]]
    for k, checkpoint in enumerate(checkpoints):
        wait(coming)  # one file is read at a time
        current = coming.pop()
        for following in checkpoints[k + 1 : k + 2]:
            coming = [reader.submit(_read, prepared, following, folder)]
        yield checkpoint, current


def outcome_of(
    engine: Engine,
    examples: int,
    checkpoint: Checkpoint,
    read: Callable[[], Found | Loaded],
    tell: Tell,
    measure: Measure | None = None,
) -> Outcome | Found:
    """The outcome of a checkpoint: what was ``read``, if an earlier run left it, or a measurement.

    ``examples`` is how many a measurement tells of.
    """
    tell(Begun(checkpoint.name, place_of(engine)))
    try:
        content = read()
        if isinstance(content, Loaded):
            return (measure or measured)(engine, checkpoint, content, tell)
        tell(Advanced(checkpoint.name, examples))
        return content
    except CheckpointError as problem:
        return Outcome(checkpoint, problem=problem)


def _snapshot(prepared: Prepared, checkpoint: Checkpoint) -> Snapshot:
    """The hash of a checkpoint as it is now.

    Raises:
        CheckpointError: it cannot be read now, or could not be before.
    """
    if problem := prepared.problems.get(checkpoint.name):
        raise problem
    return Snapshot.of(checkpoint)


def _read(prepared: Prepared, checkpoint: Checkpoint, folder: Folder) -> Outcome | Snapshot:
    """The unit that an earlier run made of the same checkpoint, else the hash of its files.

    Raises:
        CheckpointError: it cannot be read now, or could not be before.
    """
    snapshot = _snapshot(prepared, checkpoint)
    unit = folder.read(checkpoint.name, snapshot.sha256)
    if unit is not None and _holds(unit, checkpoint, prepared):
        return Outcome(checkpoint, unit)
    return snapshot


def _kept_or_loaded(prepared: Prepared, coming: Future[Outcome | Snapshot]) -> Outcome | Loaded:
    """The unit that was found of a checkpoint, else the loaded checkpoint.

    Raises:
        CheckpointError: it cannot be read now, or could not be before.
    """
    found = coming.result()
    if isinstance(found, Outcome):
        return found
    return load(prepared.job, found, prepared.following.get(found.checkpoint.name))


def _holds(unit: Unit, checkpoint: Checkpoint, prepared: Prepared) -> bool:
    """Whether a unit has what is wanted of its checkpoint, and of the one after it."""
    examples = unit.measurement.examples is not None or not prepared.engine.settings.examples
    return examples and unit.following == hash_of(prepared.following.get(checkpoint.name))


def measured(
    engine: Engine, checkpoint: Checkpoint, loaded: Loaded, tell: Tell, team: Team | None = None
) -> Outcome:
    """The outcome of a checkpoint that this process measures, alone or as the first of a team.

    Raises:
        CheckpointError: it cannot be measured.
    """
    after, advance = loaded.following, partial(advanced, tell, checkpoint.name)
    weights = None if after is None else after.weights
    measurement = engine.measure(loaded.model, advance, weights, team)
    notes = tuple(f"{checkpoint.name}: {note}" for note in measurement.notes)
    record: dict[str, str | int | None] = {
        "prefix": loaded.prefix,
        "sha256": loaded.sha256,
        "version": versions()[PROGRAM],
        "device": device_name(engine.device),
    }
    if after is not None:
        record[FOLLOWING] = after.sha256
    if team is not None:
        record["ranks"] = team.ranks
    state = engine.state() | {"notes": [*engine.notes, *notes]}
    unit = Unit(measurement, record_of(checkpoint) | record, state)
    return Outcome(checkpoint, unit, is_new=True, notes=notes)


def advanced(tell: Tell, checkpoint: str, examples: int) -> None:
    """Tell that so many examples of a checkpoint were measured."""
    tell(Advanced(checkpoint, examples))
