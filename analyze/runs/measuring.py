"""The outcome of each checkpoint: its unit of an earlier run, or a measurement.

This process measures, while a thread reads the next checkpoint (hashes and maps the file, builds
the model); or workers do, each a checkpoint of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.gradients.ranks.team import Team
from analyze.runs.loading import Loaded, Snapshot, hash_of, load
from analyze.runs.messages import Advanced, Begun, place_of, showing
from analyze.runs.outcome import Outcome, record_of
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.provenance import PROGRAM, versions
from analyze.runs.units.folder import Folder
from analyze.runs.units.unit import FOLLOWING, Unit
from analyze.runs.workers import Tell, Workers

Task = tuple[Checkpoint, Mapping[str, Any]]  # the second is the engine's state
Measure = Callable[[Engine, Checkpoint, Loaded, Tell], Outcome]
LOST = "{name}: the worker that measured it ended early; measured again without workers"


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
            read = coming.result
            yield outcome_of(prepared.engine, examples, checkpoint, read, tell, measure)
    finally:
        reader.shutdown(cancel_futures=True)


def side_by_side(
    prepared: Prepared, folder: Folder, progress: Progress, workers: Workers[Task, Outcome]
) -> Generator[Outcome, None, None]:
    """The outcome of each checkpoint, in the order in which workers are done.

    A checkpoint whose worker dies or fails by no fault of the checkpoint is measured in this
    process once the workers are gone, where there is more memory and errors show.
    """

    def tasks() -> Iterator[Task]:
        for checkpoint in prepared.job.checkpoints:
            yield checkpoint, prepared.engine.state()

    lost = []
    for (checkpoint, _), outcome in workers.results(tasks(), showing(progress)):
        if outcome is None:
            lost.append(checkpoint)
            progress.note(LOST.format(name=checkpoint.name))
        else:
            yield outcome
    workers.end()
    yield from one_by_one(prepared.on(lost), folder, progress)


def workers_for(prepared: Prepared, folder: Folder) -> Workers[Task, Outcome]:
    """Workers for ``side_by_side``, each a copy of this process as it is now."""

    def work(task: Task, tell: Tell) -> Outcome:
        checkpoint, state = task
        prepared.engine.adopt(state)
        read = partial(_read, prepared, checkpoint, folder)
        return outcome_of(prepared.engine, prepared.examples, checkpoint, read, tell)

    return Workers(min(prepared.division.workers, len(prepared.job.checkpoints)), work)


def _ahead(
    prepared: Prepared, folder: Folder, reader: ThreadPoolExecutor
) -> Iterator[tuple[Checkpoint, Future[Unit | Loaded]]]:
    """Each checkpoint and its content, while a thread reads the next one."""
    checkpoints = prepared.job.checkpoints
    coming = [reader.submit(_read, prepared, first, folder) for first in checkpoints[:1]]
    for k, checkpoint in enumerate(checkpoints):
        wait(coming)  # no more than the one measured and the next are held
        current = coming.pop()
        for following in checkpoints[k + 1 : k + 2]:
            coming = [reader.submit(_read, prepared, following, folder)]
        yield checkpoint, current


def outcome_of(
    engine: Engine,
    examples: int,
    checkpoint: Checkpoint,
    read: Callable[[], Unit | Loaded],
    tell: Tell,
    measure: Measure | None = None,
) -> Outcome:
    """The outcome of a checkpoint: what was ``read``, if that is a unit, else a measurement.

    ``examples`` is how many a measurement tells of.
    """
    tell(Begun(checkpoint.name, place_of(engine)))
    try:
        content = read()
        if isinstance(content, Loaded):
            return (measure or measured)(engine, checkpoint, content, tell)
        tell(Advanced(checkpoint.name, examples))
        return Outcome(checkpoint, content)
    except CheckpointError as problem:
        return Outcome(checkpoint, problem=problem)


def _read(prepared: Prepared, checkpoint: Checkpoint, folder: Folder) -> Unit | Loaded:
    """The unit that an earlier run made of the same checkpoint, else the loaded checkpoint.

    Raises:
        CheckpointError: it cannot be read now, or could not be before.
    """
    if problem := prepared.problems.get(checkpoint.name):
        raise problem
    snapshot = Snapshot.of(checkpoint)
    unit = folder.read(checkpoint.name, snapshot.sha256)
    examples = prepared.engine.settings.examples
    if (
        unit is not None
        and (unit.measurement.examples is not None or not examples)
        and unit.following == hash_of(prepared.following.get(checkpoint.name))
    ):
        return unit
    return load(prepared.job, snapshot, prepared.following.get(checkpoint.name))


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
