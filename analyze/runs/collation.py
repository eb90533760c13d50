"""The results tree, from the outcomes of the checkpoints."""

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
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared, examples_wanted
from analyze.runs.provenance import circumstances, of_the_run


def collate(prepared: Prepared, outcomes: Sequence[Outcome]) -> xr.DataTree:
    """The tree of a results file, with a row for each outcome.

    Raises:
        CheckpointError: the first problem, where nothing was measured.
    """
    problems = [o.problem for o in outcomes if o.problem is not None]
    if len(problems) == len(outcomes):
        raise problems[0]
    job, engine = prepared.job, prepared.engine
    methods = engine.plan.named_methods
    parameters = [replace(p, method=methods[p.name]) for p in prepared.parameters]
    records = [o.record() | _rounding(o, engine) for o in outcomes]
    measured = [o.unit.measurement for o in outcomes if o.unit is not None]
    return results.build_tree(
        [_row(o, engine) for o in outcomes],
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
    """Parameters that had only rounding at this checkpoint, but not at all checkpoints."""
    shown = set(outcome.unit.measurement.rounding or ()) if outcome.unit is not None else set()
    only_rounding = sorted(shown - engine.proof.zero_to_rounding)
    return {"zero_to_rounding": only_rounding} if only_rounding else {}


def _row(outcome: Outcome, engine: Engine) -> Row:
    checkpoint, unit = outcome.checkpoint, outcome.unit
    measured = None if unit is None else without_rounding(unit.measurement, engine)
    status = outcome.reason or OK
    return Row(checkpoint.name, checkpoint.step, checkpoint.epoch, status, measured)


def without_rounding(measured: Measurement, engine: Engine) -> Measurement:
    """A measurement in which gradients that are nothing but rounding are 0."""
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
