"""The results tree, from the outcomes of the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.gradients.engine import Engine
from analyze.gradients.losses import position_counts
from analyze.gradients.measurement import Measurement
from analyze.probes.directions import OWN, UPDATE
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
    outcomes, notes = with_known_updates(outcomes, engine.settings.directions)
    measured = [o.unit.measurement for o in outcomes if o.unit is not None]
    return results.build_tree(
        [_row(o, engine) for o in outcomes],
        parameters,
        job.probes,
        engine.cells,
        {
            **circumstances(engine, job.loss_spec, measured),
            **of_the_run(job, records, [*engine.notes, *notes]),
            **({} if prepared.leader is None else {"ranks": prepared.leader.as_facts()}),
        },
        examples=engine.settings.examples and examples_wanted(job, len(outcomes), len(parameters)),
        positions=position_counts(engine.loss, job.probes.targets),
        directions=engine.settings.directions,
    )


def with_known_updates(
    outcomes: Sequence[Outcome], directions: Sequence[str]
) -> tuple[list[Outcome], list[str]]:
    """Outcomes with an update only where it leads to the next one, and notes on the others."""
    if UPDATE not in directions:
        return [*outcomes], []
    number, found, without = [*directions].index(UPDATE), [], []
    for one, after in zip_longest(outcomes, outcomes[1:]):
        next_unit = None if after is None else after.unit
        sha256 = None if next_unit is None else next_unit.record["sha256"]
        if one.unit is not None and (sha256 is None or one.unit.following != sha256):
            measured = _without_direction(number, one.unit.measurement)
            one = replace(one, unit=replace(one.unit, measurement=measured))  # noqa: PLW2901
            without.append(one.checkpoint.name)
        found.append(one)
    note = f"no update is known at {listed(without)}: it takes the next checkpoint, measured too"
    return found, [note] if without else []


def _without_direction(number: int, measured: Measurement) -> Measurement:
    """A measurement that is NaN along one direction."""
    if measured.alignment is None or measured.direction_squares is None:
        return measured
    alignment, squares = measured.alignment.copy(), measured.direction_squares.copy()
    alignment[number], squares[number] = np.nan, np.nan
    return replace(measured, alignment=alignment, direction_squares=squares)


def _rounding(outcome: Outcome, engine: Engine) -> dict[str, list[str]]:
    """Parameters that had only rounding at this checkpoint, but not at all checkpoints."""
    shown = set(outcome.unit.measurement.rounding or ()) if outcome.unit is not None else set()
    only_rounding = sorted(shown - engine.proof.zero_to_rounding)
    return {"zero_to_rounding": only_rounding} if only_rounding else {}


def _row(outcome: Outcome, engine: Engine) -> Row:
    checkpoint, unit = outcome.checkpoint, outcome.unit
    measured = None if unit is None else without_rounding(unit.measurement, engine)
    status = outcome.reason or OK
    return Row(
        checkpoint.name, checkpoint.step, checkpoint.epoch, status, measured,
        checkpoint.learning_rate,
    )  # fmt: skip


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
    real = replace(measured, gram=gram, squared_norms=squared, examples=examples)
    return _directions_without(rounding, real, engine.settings.directions)


def _directions_without(
    rounding: np.ndarray, measured: Measurement, directions: Sequence[str]
) -> Measurement:
    """A measurement with alignments of 0 where gradients are nothing but rounding.

    A sum of such gradients is 0 as well; weights are what they are.
    """
    if measured.alignment is None or measured.direction_squares is None:
        return measured
    alignment, squares = measured.alignment.copy(), measured.direction_squares.copy()
    sums = np.array([name not in OWN for name in directions])
    there = ~np.isnan(squares).all(1)
    alignment[np.ix_(there, rounding)] = 0.0
    squares[np.ix_(sums, rounding)] = 0.0
    return replace(measured, alignment=alignment, direction_squares=squares)
