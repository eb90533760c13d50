"""Everything short of the run: the model fits, the plan and its proof, sizes and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import InputError
from analyze.gradients.checks.proof import Proof
from analyze.gradients.device.timing import Timing
from analyze.gradients.plan import Plan
from analyze.gradients.step.conditions import threads_restored
from analyze.runs.detection import Limit, detectable
from analyze.runs.job import Job, Options, resolve
from analyze.runs.loading import loaded_model
from analyze.runs.preparation import Prepared, prepare
from analyze.runs.workers.forks import at_once

REST = "forward pass, gradients of activations"
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


def check(run: str | Path, options: Options | None = None) -> Check:
    """Calibrate and prove on the first, middle and last checkpoint; measure a pilot only.

    Raises:
        InputError: whatever would stop the run.

    Cost: the proof, a few batches, and a pilot of at most 256 probes on the middle checkpoint.
    """
    options = options or Options()
    options.check()
    start = time.perf_counter()
    job = resolve(run, options)
    with threads_restored():
        prepared = prepare(job)  # as a run does
        return _checked(job, prepared, time.perf_counter() - start)


def _checked(job: Job, prepared: Prepared, preparation: float) -> Check:
    engine = prepared.engine
    good = [c for c in job.checkpoints if c.name not in prepared.problems]
    timing = _timing(job, prepared, good[-1])
    report = _report(job, prepared, timing, len(good), preparation)
    gram = int(str(report["gram_bytes"]))
    warnings = [*job.warnings, *engine.notes]
    if gram > LARGE_GRAM:
        warnings.append(
            f"the Gram matrices take {gram / 2**30:.1f} GiB: they grow with the square of the "
            f"{len(engine.cells)} cells; fewer --folds or --cells make them smaller"
        )
    layers: list[Limit] = []
    middle = good[len(good) // 2]
    try:
        layers = detectable(engine, lambda: loaded_model(job, middle), prepared.parameters)
    except InputError as error:
        warnings.append(f"no pilot on {middle.name}: {error.what}: {error.found}")
    return Check(
        [
            _parameter(p.name, p.layer, p.size, engine.plan, engine.proof)
            for p in prepared.parameters
        ],
        _methods(prepared, timing),
        layers,
        report,
        warnings,
        {name: f"{p.what}: {p.found}" for name, p in prepared.problems.items()},
    )


def _timing(job: Job, prepared: Prepared, checkpoint: Checkpoint) -> Timing:
    """As a run measures: where that is side by side, workers share caches and memory."""
    engine, workers = prepared.engine, prepared.division.workers

    def timed() -> tuple[Timing, dict[str, Any]]:
        return engine.timing(loaded_model(job, checkpoint)), engine.state()

    found = at_once(timed, workers)
    if not found:  # alone, or where it is told what is wrong
        return engine.timing(loaded_model(job, checkpoint))
    timing, state = max(found, key=lambda one: one[0].checkpoint)
    engine.adopt(state)  # the algorithms that were chosen
    return timing


def _report(
    job: Job, prepared: Prepared, timing: Timing, measured: int, preparation: float
) -> dict[str, object]:
    engine = prepared.engine
    cells, checkpoints = len(engine.cells), len(job.checkpoints)
    size = 4 if engine.settings.precision == "float32" else 8
    values = sum(p.size for p in prepared.parameters)
    layers = len({p.layer for p in prepared.parameters})
    turns = prepared.division.turns(measured)
    gram = 8 * checkpoints * len(prepared.parameters) * cells**2
    examples = 4 * checkpoints * layers * len(job.probes) if engine.settings.examples else 0
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
        "threads": prepared.division.threads,
        "shares": engine.current.shares,
        "batch_size": engine.batch_size,
        "algorithms": engine.plan.algorithms,
        "proof_precision": engine.proof.dtype,
        "proof_examples": engine.proof.examples,
        "cell_sum_bytes": size * cells * values,
        "gram_bytes": gram,
        "file_bytes": gram + examples,
        "gram_seconds": timing.gram * turns,
        "preparation_seconds": preparation,
        "seconds": preparation + timing.checkpoint * turns,
    }


def _parameter(name: str, layer: str, size: int, plan: Plan, proof: Proof) -> dict[str, object]:
    return {
        "parameter": name,
        "layer": layer,
        "size": size,
        "method": str(plan.methods[name]),
        "error": proof.errors.get(name),
        "verdict": proof.verdict(name, plan),
    }


def _methods(prepared: Prepared, timing: Timing) -> list[dict[str, object]]:
    """What each method measures and costs, the dearest first; then everything else in a batch."""
    plan = prepared.engine.plan
    rows = []
    for method, share in sorted(timing.share.items(), key=lambda pair: -pair[1]):
        own = [p for p in prepared.parameters if plan.methods[p.name].uses(method)]
        rows.append(_method(method, len(own), sum(p.size for p in own), share))
    return [*rows, _method(REST, None, None, max(0.0, 1.0 - sum(timing.share.values())))]


def _method(
    name: str, parameters: int | None, values: int | None, share: float
) -> dict[str, object]:
    return {"method": name, "parameters": parameters, "values": values, "time": share}
