"""The results tree of what became of the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from analyze.gradients.engine import Engine
from analyze.gradients.losses import position_counts
from analyze.gradients.measurement import Measurement
from analyze.results import tree as results
from analyze.results.tree import OK, Row
from analyze.runs.job import Job
from analyze.runs.preparation import Prepared, examples_wanted
from analyze.runs.provenance import circumstances, of_a_checkpoint, of_the_run
from analyze.runs.replay import Outcome


def collate(job: Job, prepared: Prepared, outcomes: Sequence[Outcome]) -> xr.DataTree:
    """The tree of a results file, with a row for each outcome.

    Raises:
        CheckpointError: the first problem, where nothing was measured.
    """
    problems = [one.problem for one in outcomes if one.problem is not None]
    if len(problems) == len(outcomes):
        raise problems[0]
    engine = prepared.engine
    methods = engine.plan.named_methods
    parameters = [replace(p, method=methods[p.name]) for p in prepared.parameters]
    records = [
        of_a_checkpoint(one.checkpoint)
        | {k: one.unit.record.get(k) for k in ("prefix", "sha256", "version") if one.unit}
        | _rounding(one, engine)
        for one in outcomes
    ]
    measured = [one.unit.measurement for one in outcomes if one.unit is not None]
    return results.build_tree(
        [_row(one, engine) for one in outcomes],
        parameters,
        job.probes,
        engine.cells,
        {
            **circumstances(engine, job.loss_spec, measured),
            **of_the_run(job, records, engine.notes),
        },
        examples=engine.settings.examples and examples_wanted(job, len(outcomes), len(parameters)),
        positions=position_counts(engine.loss, job.probes.targets),
    )


def _rounding(outcome: Outcome, engine: Engine) -> dict[str, list[str]]:
    """Parameters that showed only rounding at this checkpoint, though not at every one."""
    unit = outcome.unit
    here = set() if unit is None else set(unit.measurement.rounding or ())
    only_here = sorted(here - engine.proof.zero_to_rounding)
    return {"zero_to_rounding": only_here} if only_here else {}


def _row(outcome: Outcome, engine: Engine) -> Row:
    checkpoint, problem = outcome.checkpoint, outcome.problem
    status = OK if problem is None else f"{problem.what}: {problem.found}"
    measured = None
    if outcome.unit is not None:
        measured = without_rounding(outcome.unit.measurement, engine)
    return Row(checkpoint.name, checkpoint.step, checkpoint.epoch, status, measured)


def without_rounding(measured: Measurement, engine: Engine) -> Measurement:
    """Parameters whose gradient is nothing but rounding have gradient 0 in the results."""
    names = engine.proof.zero_to_rounding if measured.rounding is None else measured.rounding
    rounding = np.array([name in names for name in measured.parameters])
    if not rounding.any():
        return measured
    examples = None if measured.examples is None else measured.examples.copy()
    if examples is not None:
        examples[rounding] = 0.0
    gram, squared = measured.gram.copy(), measured.squared_norms.copy()
    gram[rounding], squared[rounding] = 0.0, 0.0
    return replace(measured, gram=gram, squared_norms=squared, examples=examples)
