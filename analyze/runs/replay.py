"""The replay: every checkpoint gets its unit, and none disturbs the others.

A checkpoint's trouble is told when it is found. Units are written in a thread of its own while the
next ones are measured; that one cannot be written is told with one after it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from analyze.runs.measuring import one_by_one, side_by_side, workers_for
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import check_interruption


def replay(prepared: Prepared, folder: Folder, progress: Progress) -> list[Outcome]:
    """What becomes of each checkpoint of a job, in order.

    Args:
        prepared: The job with the proven engine, which learns from each checkpoint.
        folder: Where units are found and kept.
        progress: Told what happens.

    Raises:
        InputError: a unit cannot be written, or the first problem with ``on_error="fail"``.
    """
    job, outcomes = prepared.job, {}
    with ExitStack() as stack:
        coming = one_by_one(prepared, folder, progress)
        if prepared.division.workers > 1 and len(job.checkpoints) > 1:
            workers = stack.enter_context(workers_for(prepared, folder))
            coming = side_by_side(prepared, folder, progress, workers)
        keeper = _Keeper(folder)
        stack.callback(keeper.close)
        stack.callback(progress.finish)
        stack.callback(coming.close)
        progress.start(len(job.checkpoints), len(job.probes))
        for note in prepared.engine.notes:
            progress.note(f"Warning: {note}")
        for outcome in coming:
            check_interruption()
            _tell(outcome, job.options.on_error, progress)
            if outcome.unit is not None:
                prepared.engine.adopt(outcome.unit.state)
            if outcome.is_new:
                keeper.keep(outcome)
            outcomes[outcome.checkpoint.name] = outcome
        keeper.wait()
    return [outcomes[checkpoint.name] for checkpoint in job.checkpoints]


def _tell(outcome: Outcome, on_error: str, progress: Progress) -> None:
    """Say why there is no unit, or what was noted while it was measured."""
    if outcome.problem is not None:
        if on_error == "fail":
            raise outcome.problem
        progress.note(f"Skipped {outcome.checkpoint.name}: {outcome.problem}")
    for note in outcome.notes:
        progress.note(f"Warning: {note}")


class _Keeper:
    """Writes units in a thread of its own, one after the other."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._written: Future[None] | None = None

    def keep(self, outcome: Outcome) -> None:
        """Begin to write a unit, and what the engine learned while it was measured.

        Raises:
            InputError: the unit before it could not be written.
        """
        self.wait()
        self._written = self._writer.submit(self._keep, outcome)

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

    def _keep(self, outcome: Outcome) -> None:
        assert outcome.unit is not None
        self._folder.write(outcome.checkpoint.name, outcome.unit)
        self._folder.extend_plan(outcome.unit.state["algorithms"])
