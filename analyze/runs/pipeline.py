"""``run``: checkpoints + probes -> engine -> sufficient statistics -> results.

The job says what is to be measured (``job``), the engine is proven on it (``preparation``), each
checkpoint becomes a unit (``replay``), and the units become the results (``collation``); again for
each checkpoint that a training adds (``following``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import xarray as xr

from analyze.checkpoints.finding.watch import Watch
from analyze.errors import InputError, bad_choice
from analyze.files.whole import real_path
from analyze.gradients.step.conditions import threads_restored
from analyze.keywords import built, taking
from analyze.results import file as store
from analyze.results.display import Results
from analyze.runs.collation import collate
from analyze.runs.following import first_job, follow
from analyze.runs.job import advice, resolve
from analyze.runs.options import RunKeywords, RunOptions
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared, prepare
from analyze.runs.progress import Progress
from analyze.runs.ranks.joining import on_its_device
from analyze.runs.ranks.launch import Launch
from analyze.runs.ranks.leader import Leader, leading
from analyze.runs.recording import Recorded
from analyze.runs.replay import replay
from analyze.runs.stages import READING, WRITING, Stages
from analyze.runs.units.folder import Folder
from analyze.runs.units.interruption import interruptible
from analyze.runs.units.lock import locked
from analyze.runs.where import check_place
from analyze.statistics.regrouping import provenance
from analyze.statistics.warnings import warnings_of_the_run


@taking(RunOptions)
def run(
    run: str | Path, *, progress: Progress | None = None, **options: Unpack[RunKeywords]
) -> xr.DataTree:
    """Measure every checkpoint of a run and write the results file.

    Each checkpoint becomes a unit, a file in ``OUTPUT.units``; the results file is made of them
    at the end. The same call again keeps the units of checkpoints that have not changed.

    Args:
        run: The directory of checkpoints, or one checkpoint.
        progress: Shows what happens, as ``analyze.runs.progress.for_stderr()`` does; without it
            nothing is shown.
        **options: See ``RunOptions``.

    Returns:
        The tree that was written.

    Raises:
        InputError: nothing could be measured, another run writes to the output, its units are of
            another configuration, or the first problem with ``on_error="fail"``.
        Interrupted: Ctrl-C or SIGTERM; the finished units are kept.

    Example:
        ``analyze.run("runs/half_noise", output="half_noise.h5", folds=20)``
    """
    chosen = built(RunOptions, options)
    with progress or Progress() as shown:
        return _measured(run, _target(run, chosen), chosen, Recorded(shown))


def run_on_ranks(
    launch: Launch, run: str | Path, *, progress: Progress, **options: Unpack[RunKeywords]
) -> xr.DataTree:
    """``run`` as the rank that leads all others of a launch by torchrun.

    Args:
        launch: Of this rank.
        run: As for ``run``, and so are the others.
        progress: Shows what happens.
        **options: See ``RunOptions``.

    Returns:
        The tree that was written.

    Raises:
        InputError: as ``run``; a rank did not come, has ended, or gives no sign.
        Interrupted: Ctrl-C or SIGTERM; the finished units are kept.
    """
    chosen = on_its_device(launch, built(RunOptions, options))
    if chosen.cluster is not None:
        raise bad_choice("cluster", chosen.cluster, "none under torchrun, whose ranks measure")
    with progress as shown, leading(launch, chosen.settings.device) as leader:
        return _measured(run, _target(run, chosen), chosen, Recorded(shown), leader)


def _target(run: str | Path, chosen: RunOptions) -> Path:
    """The results file, which can be written.

    Raises:
        InputError: it cannot.
    """
    target = output_of(run, chosen.output)
    store.check_writable(target if chosen.output is None else chosen.output)
    return target


def output_of(run: str | Path, output: str | Path | None) -> Path:
    """The path of the results file; by default the run's name in the current directory."""
    return Path(f"{real_path(Path(run)).name}.h5" if output is None else output)


def _measured(
    run: str | Path,
    target: Path,
    chosen: RunOptions,
    progress: Recorded,
    leader: Leader | None = None,
) -> xr.DataTree:
    """Prepare and measure what is there, or what comes, and write the results."""
    stages = Stages(progress)
    stages.begin(READING)
    check_place(chosen)
    watch = None
    if chosen.follow:
        watch = Watch(Path(run), None if chosen.patience is None else 60 * chosen.patience)
    job = first_job(watch, chosen, progress) if watch else resolve(run, chosen)
    for sentence in advice(job):
        progress.note(f"Note: {sentence}")
    folder = Folder(target)
    with (
        interruptible(folder),
        threads_restored(),
        locked(folder.lock) as supported,
        progress.beside(folder.path),
    ):
        if not supported:
            progress.note(f"Warning: no locks beside {target}: run one command at a time on it")
        if job.model.module is not None and chosen.cluster is not None:
            raise _only_here(job.model.text)
        alone = chosen.follow or leader is not None or job.model.module is not None
        prepared = prepare(job, folder, restart=chosen.restart, alone=alone, stages=stages)
        prepared = replace(prepared, leader=leader)
        if watch is None:
            series = iter([(prepared, replay(prepared, folder, progress))])
        else:
            series = follow(prepared, watch, folder, progress)
        return _written(series, folder, progress)


def _only_here(model: str) -> InputError:
    return InputError(
        "a model in memory is measured in the process that has it",
        found=f"{model}, and a cluster",
        expected="without a cluster a module, with one a spec that every machine can build",
        fix="leave cluster out, or model='FILE.py:FACTORY'",
    )


def _written(
    series: Iterable[tuple[Prepared, list[Outcome]]], folder: Folder, progress: Progress
) -> xr.DataTree:
    """Write the results of each job over those before, and return the last tree."""
    shown: set[str] = set()

    def tell(text: str) -> None:
        """Tell each thing once, however often the results are written."""
        if text not in shown:
            progress.note(text)
        shown.add(text)

    for prepared, outcomes in series:
        tell(f"{WRITING} {folder.output}")
        tree = collate(prepared, outcomes)
        for warning in warnings_of_the_run(tree):
            tell(f"Warning: {warning}")
        folder.check_held()
        store.write_results(tree, folder.output)
    if verified := provenance(tree)["verification"]["agreement"]:
        progress.note(f"Verified: {verified}")
    return Results.of(tree)
