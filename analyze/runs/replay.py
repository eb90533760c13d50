"""The replay: every checkpoint gets its unit, and none disturbs the others.

A thread writes each unit while the next checkpoint is measured. An error of it is raised when the
next unit is to be written, or at the end.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from analyze.errors import without_name
from analyze.runs.measuring import one_by_one, side_by_side
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.ranks.checkpoints import on_ranks
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import check_interruption
from analyze.runs.units.unit import Unit
from analyze.runs.where import workers_for


def replay(prepared: Prepared, folder: Folder, progress: Progress) -> list[Outcome]:
    """The outcome of each checkpoint of a job, in order; the engine learns from each.

    Raises:
        InputError: a unit cannot be written, or the first problem with ``on_error="fail"``.
    """
    job, outcomes = prepared.job, {}
    told: dict[str, str] = {}  # by a problem, without names, the checkpoint that it was told of
    written: Future[None] | None = None  # the last unit
    with ExitStack() as stack:
        coming = one_by_one(prepared, folder, progress)
        if prepared.leader is not None:
            coming = on_ranks(prepared, folder, progress, prepared.leader)
        elif (workers := workers_for(prepared, progress)) is not None:
            coming = side_by_side(prepared, folder, progress, stack.enter_context(workers))
        writer = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        stack.callback(progress.finish)
        stack.callback(coming.close)
        progress.start([c.name for c in job.checkpoints], prepared.examples)
        for note in prepared.engine.notes:
            progress.note(f"Warning: {note}")
        for outcome in coming:
            check_interruption()
            _tell(outcome, job.options.on_error, progress, told)
            if outcome.unit is not None:
                prepared.engine.restore(outcome.unit.state)
                if outcome.is_new:
                    if written is not None:
                        written.result()
                    written = writer.submit(_write, folder, outcome.checkpoint.name, outcome.unit)
            outcomes[outcome.checkpoint.name] = outcome
        if written is not None:
            written.result()
    return [outcomes[checkpoint.name] for checkpoint in job.checkpoints]


def _tell(outcome: Outcome, on_error: str, progress: Progress, told: dict[str, str]) -> None:
    """Say why there is no unit, in full once for equal problems, or what was noted meanwhile."""
    name = outcome.checkpoint.name
    progress.ended(name, outcome.reason, outcome.is_new)
    if outcome.problem is not None:
        if on_error == "fail":
            raise outcome.problem
        problem = str(outcome.problem)
        first = told.setdefault(without_name(problem, name), name)
        said = problem if first == name else f"{outcome.problem.what}, as of {first}"
        progress.note(f"Skipped {name}: {said}")
    for note in outcome.notes:
        progress.note(f"Warning: {note}")


def _write(folder: Folder, checkpoint: str, unit: Unit) -> None:
    """Write a unit, and the algorithms that the engine chose while it was measured."""
    folder.write(checkpoint, unit)
    folder.extend_plan(unit.state["algorithms"])
