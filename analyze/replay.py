"""The replay: every checkpoint is loaded, measured and kept, and none disturbs the others."""

from __future__ import annotations

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
    try:
        return [_outcome(job, prepared, c, folder, progress) for c in job.checkpoints]
    finally:
        progress.finish()


def _outcome(
    job: Job, prepared: Prepared, checkpoint: Checkpoint, folder: Folder, progress: Progress
) -> Outcome:
    progress.checkpoint(checkpoint.name)
    problem = prepared.problems.get(checkpoint.name)
    if problem is None:
        try:
            engine = prepared.engine
            found = _found(job, checkpoint, folder, examples=engine.settings.examples)
            if isinstance(found, Loaded):
                unit = _measured(engine, checkpoint, found, progress)
                _keep(folder, checkpoint, unit)
            else:
                unit = found
                engine.adopt(unit.state)
                progress.advance(len(job.probes))
            return Outcome(checkpoint, unit)
        except CheckpointError as error:
            if job.options.on_error == "fail":
                raise
            problem = error
    progress.note(f"Skipped {checkpoint.name}: {problem}")
    return Outcome(checkpoint, None, problem)


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


def _keep(folder: Folder, checkpoint: Checkpoint, unit: Unit) -> None:
    """Write a unit, and what the engine learned while it was measured."""
    folder.write(checkpoint.name, unit)
    folder.extend_plan(unit.state["algorithms"])
