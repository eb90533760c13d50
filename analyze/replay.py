"""The replay: every checkpoint is loaded, measured and kept, and none disturbs the others.

While one is measured the next is read, in a thread of its own: hashing, mapping the file, building
the model; and the unit of the one before is written in another. A checkpoint's trouble is told when
its turn comes, that of writing a unit with the checkpoint after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.job import Job
from analyze.loading import Loaded, hash_of, load
from analyze.preparation import Prepared
from analyze.progress import Progress
from analyze.provenance import PROGRAM, of_a_checkpoint, versions
from analyze.units.folder import Folder
from analyze.units.unit import Unit


@dataclass(frozen=True)
class Outcome:
    """What became of a checkpoint: its unit, or the reason why there is none."""

    checkpoint: Checkpoint
    unit: Unit | None
    problem: CheckpointError | None = None


def replay(job: Job, prepared: Prepared, folder: Folder, progress: Progress) -> list[Outcome]:
    """What becomes of each checkpoint of a job, in order.

    Args:
        job: With the checkpoints to measure.
        prepared: With the proven engine, which learns from each checkpoint.
        folder: Where units are found and kept.
        progress: Told what happens.

    Raises:
        InputError: a unit cannot be written, or the first problem with ``on_error="fail"``.
    """
    progress.start(len(job.checkpoints), len(job.probes))
    reader = ThreadPoolExecutor(max_workers=1)
    keeper = _Keeper(folder)
    try:
        outcomes = []
        for checkpoint, coming in _ahead(job, prepared, folder, reader):
            progress.checkpoint(checkpoint.name)
            outcomes.append(_outcome(job, prepared, checkpoint, coming, keeper, progress))
        keeper.wait()
        return outcomes
    finally:
        reader.shutdown(cancel_futures=True)
        keeper.close()
        progress.finish()


def _ahead(
    job: Job, prepared: Prepared, folder: Folder, reader: ThreadPoolExecutor
) -> Iterator[tuple[Checkpoint, Future[Unit | Loaded]]]:
    """Every checkpoint with what is found for it, while the one after it is being read."""

    def read(checkpoint: Checkpoint) -> Unit | Loaded:
        if problem := prepared.problems.get(checkpoint.name):
            raise problem
        return _found(job, checkpoint, folder, examples=prepared.engine.settings.examples)

    coming: Future[Unit | Loaded] | None = None
    for k, checkpoint in enumerate(job.checkpoints):
        here = coming or reader.submit(read, checkpoint)
        wait([here])  # no more than the one measured and the next are held
        following = job.checkpoints[k + 1 : k + 2]
        coming = reader.submit(read, following[0]) if following else None
        yield checkpoint, here


def _outcome(
    job: Job,
    prepared: Prepared,
    checkpoint: Checkpoint,
    coming: Future[Unit | Loaded],
    keeper: _Keeper,
    progress: Progress,
) -> Outcome:
    try:
        found = coming.result()
        if isinstance(found, Loaded):
            unit = _measured(prepared.engine, checkpoint, found, progress)
            keeper.keep(checkpoint, unit)
        else:
            unit = found
            prepared.engine.adopt(unit.state)
            progress.advance(len(job.probes))
        return Outcome(checkpoint, unit)
    except CheckpointError as error:
        if job.options.on_error == "fail":
            raise
        progress.note(f"Skipped {checkpoint.name}: {error}")
        return Outcome(checkpoint, None, error)


def _found(job: Job, checkpoint: Checkpoint, folder: Folder, examples: bool) -> Unit | Loaded:
    """The unit of an earlier run where the checkpoint is the same, else what is to be measured."""
    sha256 = hash_of(checkpoint)
    unit = folder.read(checkpoint.name, sha256)
    if unit is not None and (unit.measurement.examples is not None or not examples):
        return unit
    return load(job, checkpoint, sha256)


def _measured(engine: Engine, checkpoint: Checkpoint, loaded: Loaded, progress: Progress) -> Unit:
    """A new unit."""
    told = len(engine.notes)
    measurement = engine.measure(loaded.model, progress.advance)
    engine.notes[told:] = [f"{checkpoint.name}: {note}" for note in engine.notes[told:]]
    for note in engine.notes[told:]:
        progress.note(f"Warning: {note}")
    found = {"prefix": loaded.prefix, "sha256": loaded.sha256, "version": versions()[PROGRAM]}
    return Unit(measurement, of_a_checkpoint(checkpoint) | found, engine.state())


class _Keeper:
    """Writes units in a thread of its own, one after the other."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._written: Future[None] | None = None

    def keep(self, checkpoint: Checkpoint, unit: Unit) -> None:
        """Begin to write a unit, and what the engine learned while it was measured.

        Raises:
            InputError: the unit before it could not be written.
        """
        self.wait()
        self._written = self._writer.submit(self._keep, checkpoint, unit)

    def wait(self) -> None:
        """Until all units are written.

        Raises:
            InputError: the last of them could not be.
        """
        if self._written is not None:
            self._written.result()

    def close(self) -> None:
        """End the thread, after what it has begun."""
        self._writer.shutdown()

    def _keep(self, checkpoint: Checkpoint, unit: Unit) -> None:
        self._folder.write(checkpoint.name, unit)
        self._folder.extend_plan(unit.state["algorithms"])
