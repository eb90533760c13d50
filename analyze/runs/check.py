"""Everything short of the run: the model fits, the plan and its proof, sizes and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import InputError
from analyze.gradients.device.timing import Timing
from analyze.gradients.stages import Stage
from analyze.gradients.step.conditions import threads_restored
from analyze.keywords import built, taking
from analyze.runs.detection import PILOT, Limit, detectable
from analyze.runs.job import advice, resolve
from analyze.runs.loading import loaded_model
from analyze.runs.options import Keywords, Options
from analyze.runs.preparation import Prepared, all_read, prepare
from analyze.runs.progress import Progress
from analyze.runs.ranks.dealing import dealing_of
from analyze.runs.ranks.joining import on_its_device
from analyze.runs.ranks.launch import launched
from analyze.runs.stages import READING, Stages
from analyze.runs.workers import at_once

REST = "forward pass, gradients of activations"
TIMED = Stage("timing of a batch", 100)
PILOTED = Stage("pilot: what these probes tell from chance", PILOT + 60)  # with a plan of its own
LARGE_GRAM = 1 << 30  # bytes of Gram matrices from which a warning is given


@dataclass(frozen=True)
class Check:
    """What a run would do.

    Args:
        parameters: One dictionary for each parameter: its name, layer, size, method, and the
            relative error of the proof (None where nothing was proven, and why).
        methods: One dictionary for each method: how many parameters and values it measures, and
            its share of the time of a batch.
        layers: What each layer can tell from chance, see ``detection.detectable``; empty where the
            pilot failed, which is among the warnings.
        report: Counts, sizes in bytes and seconds, by name; ``seconds`` is the whole run without
            the start of Python, of which ``preparation_seconds`` pass before its first checkpoint.
        warnings: What the user should know before the run.
        skipped: Checkpoints that would be left out, and why.
    """

    parameters: list[dict[str, object]]
    methods: list[dict[str, object]]
    layers: list[Limit]
    report: dict[str, object]
    warnings: list[str]
    skipped: dict[str, str]


@taking(Options)
def check(
    run: str | Path, *, progress: Progress | None = None, **options: Unpack[Keywords]
) -> Check:
    """Do everything short of a run: read every checkpoint, calibrate, prove, measure a pilot.

    As a rank of a launch by torchrun it says what all ranks would do, and needs no other one.

    Args:
        run: The directory of checkpoints, or one checkpoint.
        progress: Shows what happens, as ``analyze.runs.progress.for_stderr()`` does; without it
            nothing is shown.
        **options: See ``Options``.

    Returns:
        What the run would do; ``dataclasses.asdict`` gives what ``analyze check --json`` prints.

    Raises:
        InputError: whatever would stop the run.

    Example:
        ``analyze.check("runs/half_noise", folds=20).report["seconds"]``

    Cost: the proof, a few batches, and a pilot of at most 256 probes on the middle checkpoint.
    """
    chosen = built(Options, options)
    with progress or Progress() as shown, threads_restored():
        stages = Stages(shown, last=[TIMED, PILOTED])
        stages.begin(READING)
        launch = launched()
        chosen = chosen if launch is None else on_its_device(launch, chosen)
        start = time.perf_counter()
        job = resolve(run, chosen)
        reading = time.perf_counter()
        problems = all_read(job, stages)
        start += time.perf_counter() - reading  # which a run does not do
        prepared = prepare(job, alone=launch is not None, problems=problems, stages=stages)
        ranks = 1 if launch is None else launch.ranks
        return _checked(prepared, time.perf_counter() - start, stages, ranks)


def _checked(prepared: Prepared, preparation: float, stages: Stages, ranks: int) -> Check:
    job, engine = prepared.job, prepared.engine
    readable = [c for c in job.checkpoints if c.name not in prepared.problems]
    stages.place = readable[-1].name
    stages.begin(TIMED.name)
    timing = _timing(prepared, readable[-1])
    report = _report(prepared, timing, len(readable), preparation, ranks)
    gram = int(str(report["gram_bytes"]))
    warnings = [*job.warnings, *engine.notes, *advice(job)]
    if gram > LARGE_GRAM:
        warnings.append(
            f"the Gram matrices take {gram / 2**30:.1f} GiB: they grow with the square of the "
            f"{len(engine.cells)} cells; fewer --folds or --cells make them smaller"
        )
    layers: list[Limit] = []
    middle = readable[len(readable) // 2]
    stages.place = middle.name
    stages.begin(PILOTED.name)
    try:
        layers = detectable(engine, lambda: loaded_model(job, middle), prepared.parameters)
    except InputError as error:
        warnings.append(f"no pilot on {middle.name}: {error.what}: {error.found}")
    return Check(
        parameters=_parameters(prepared),
        methods=_methods(prepared, timing),
        layers=layers,
        report=report,
        warnings=warnings,
        skipped={name: f"{p.what}: {p.found}" for name, p in prepared.problems.items()},
    )


def _timing(prepared: Prepared, checkpoint: Checkpoint) -> Timing:
    """Times of a batch, as in a run: workers that go side by side share caches and memory."""
    job, engine, workers = prepared.job, prepared.engine, prepared.division.workers

    def timed() -> tuple[Timing, dict[str, Any]]:
        return engine.timing(loaded_model(job, checkpoint)), engine.state()

    timings = at_once(timed, workers)
    if not timings:  # no workers, or all failed: this process shows what is wrong
        return engine.timing(loaded_model(job, checkpoint))
    timing, state = max(timings, key=lambda pair: pair[0].checkpoint)
    engine.restore(state)  # the algorithms that were chosen
    return timing


def _report(
    prepared: Prepared, timing: Timing, measured: int, preparation: float, ranks: int
) -> dict[str, object]:
    job, engine = prepared.job, prepared.engine
    cells, checkpoints = len(engine.cells), len(job.checkpoints)
    size = 4 if engine.settings.precision == "float32" else 8
    values = sum(p.size for p in prepared.parameters)
    layers = len({p.layer for p in prepared.parameters})
    turns: float = prepared.division.turns(measured)
    on_ranks: dict[str, object] = {}
    if ranks > 1:
        dealing = dealing_of(engine, measured, ranks)
        turns, on_ranks = dealing.turns, {"ranks": ranks, "dealing": str(dealing)}
    gram = 8 * checkpoints * len(prepared.parameters) * cells**2
    examples = 4 * checkpoints * layers * len(job.probes) if engine.settings.examples else 0
    directions = engine.settings.directions
    along: dict[str, object] = {}
    if directions:
        along = {"directions": list(directions), "direction_bytes": size * len(directions) * values}
    return {
        "run": job.name,
        "model": job.model.text,
        "loss": job.loss_spec,
        "checkpoints": checkpoints,
        "checkpoints_to_measure": measured,
        "probes": len(job.probes),
        "subsets": list(job.probes.subset_names),
        "folds": engine.settings.folds,
        "cells": cells,
        "parameters": len(prepared.parameters),
        "layers": layers,
        "device": str(engine.device),
        "workers": prepared.division.workers,
        "devices": list(prepared.division.devices),
        "threads": prepared.division.threads,
        "shares": engine.current.shares,
        **on_ranks,
        "batch_size": engine.batch_size,
        "algorithms": engine.plan.algorithms,
        "proof_precision": engine.proof.dtype,
        "proof_examples": engine.proof.examples,
        "cell_sum_bytes": size * cells * values,
        **along,
        "gram_bytes": gram,
        "file_bytes": gram + examples * (1 + len(directions)),
        "gram_seconds": timing.gram * turns,
        "preparation_seconds": preparation,
        "seconds": preparation + timing.checkpoint * turns,
    }


def _parameters(prepared: Prepared) -> list[dict[str, object]]:
    """A row for each parameter: how it is measured, and what the proof says of it."""
    plan, proof = prepared.engine.plan, prepared.engine.proof
    return [
        {
            "parameter": p.name,
            "layer": p.layer,
            "size": p.size,
            "method": str(plan.methods[p.name]),
            "error": proof.errors.get(p.name),
            "verdict": proof.verdict(p.name, plan),
        }
        for p in prepared.parameters
    ]


def _methods(prepared: Prepared, timing: Timing) -> list[dict[str, object]]:
    """A row for each method, the most expensive first, and one for everything else in a batch."""
    plan = prepared.engine.plan
    rows: list[dict[str, object]] = []
    for method, share in sorted(timing.share.items(), key=lambda pair: -pair[1]):
        sizes = [p.size for p in prepared.parameters if plan.methods[p.name].uses(method)]
        rows.append(
            {"method": method, "parameters": len(sizes), "values": sum(sizes), "time": share}
        )
    rest = max(0.0, 1.0 - sum(timing.share.values()))
    return [*rows, {"method": REST, "parameters": None, "values": None, "time": rest}]
