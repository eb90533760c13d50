"""The replay: every checkpoint gets its unit, and none disturbs the others.

A checkpoint's trouble is told when it is found. Units are written in a thread of its own while the
next ones are measured; that one cannot be written is told with one after it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.runs.job import Job
from analyze.runs.measuring import Finding, one_by_one, side_by_side, workers_for
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import check_interruption
from analyze.runs.units.unit import Unit


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
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        findings = one_by_one(job, prepared, folder, progress)
        if prepared.division.workers > 1 and len(job.checkpoints) > 1:
            workers = stack.enter_context(workers_for(job, prepared, folder))
            findings = side_by_side(job, prepared, folder, progress, workers)
        keeper = _Keeper(folder)
        stack.callback(keeper.close)
        stack.callback(progress.finish)
        stack.callback(findings.close)
        progress.start(len(job.checkpoints), len(job.probes))
        for note in prepared.engine.notes:
            progress.note(f"Warning: {note}")
        for finding in findings:
            check_interruption()
            outcomes[finding.checkpoint.name] = _outcome(job, prepared, finding, keeper, progress)
        keeper.wait()
    return [outcomes[checkpoint.name] for checkpoint in job.checkpoints]


def _outcome(
    job: Job, prepared: Prepared, finding: Finding, keeper: _Keeper, progress: Progress
) -> Outcome:
    """Keep what is new, and let the engine know what was learned."""
    checkpoint, found = finding.checkpoint, finding.found
    if isinstance(found, CheckpointError):
        if job.options.on_error == "fail":
            raise found
        progress.note(f"Skipped {checkpoint.name}: {found}")
        return Outcome(checkpoint, None, found)
    for note in finding.notes:
        progress.note(f"Warning: {note}")
    prepared.engine.adopt(found.state)
    if finding.is_new:
        keeper.keep(checkpoint, found)
    return Outcome(checkpoint, found)


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
