"""Replans after a batch whose calls no pattern of the plan has: learn them, or give up rules."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.calibrate.evidence import SIZES
from analyze.gradients.calibrate.patterns import alike_to, calls_of, together
from analyze.gradients.data.loader import Examples
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import CallPlan, Plan
from analyze.gradients.step.failures import MethodFailedError, demoted
from analyze.gradients.step.intercept import ForwardChangedError

MOST_PATTERNS = 16  # which each batch tries in turn
TRIED = 64  # examples of a batch that may make its calls by themselves
WANTED = 5  # examples to calibrate with
MOST_TOGETHER = 16  # examples that make the calls together, where none does by itself


class Learned(NamedTuple):
    """The plan to go on with, and the examples on which it is to be proven."""

    plan: Plan
    examples: Examples | None = None  # None where only the methods are others


def replanned(
    replica: Replica, failure: MethodFailedError | ForwardChangedError, plan: Plan
) -> Learned:
    """The plan after a batch that could not be measured by it, with a note of the cause.

    A batch with other calls gives the plan another pattern, from those of its examples that make
    these calls by themselves, or from a few that make them together. Where there are none, or too
    many patterns already, the rows of the calls that did not fit are traced; where other calls were
    made, the next method is left for all that rules measure.

    Cost: ten forward and seven backward passes of three examples, and a forward pass of a batch and
    of each example that is tried.
    """
    if isinstance(failure, ForwardChangedError) and failure.batch is not None:
        inputs, targets = failure.batch
        alike = _rows(replica, inputs) if len(plan.patterns) < MOST_PATTERNS else None
        if alike is not None:
            rows, sizes = alike
            other = calibrate(replica, inputs.take(rows), sizes)
            if _untraced(other) not in map(_untraced, plan.patterns):
                examples = Examples(inputs.take(rows), targets[rows])
                return Learned(plan.with_pattern(other), examples)
            plan = replace(plan, notes=(*plan.notes, *other.notes))
        if failure.parameters:
            few = torch.arange(min(WANTED, len(inputs)))
            examples = Examples(inputs.take(few), targets[few])
            return Learned(plan.traced(failure.parameters), examples)
    return Learned(demoted(plan, failure))


def _untraced(plan: Plan) -> list[CallPlan]:
    """The calls as they were before their rows had to be traced."""
    return [replace(call, traced=False) for call in plan.calls]


def _rows(replica: Replica, inputs: Inputs) -> tuple[Tensor, tuple[int, int]] | None:
    """Rows that make the calls of the whole batch, and the batch sizes to calibrate with.

    Each makes them by itself, or a few together: an expert sees some examples, and a whole batch
    calls all experts.
    """
    tried = range(min(TRIED, len(inputs)))
    rows = alike_to(replica, inputs, tried, WANTED)
    if len(rows) and calls_of(replica, inputs.take(rows)) == calls_of(replica, inputs):
        return rows, SIZES
    few = together(replica, inputs, tried, MOST_TOGETHER)
    if few is None:
        return None
    others = [row for row in tried if row not in few.tolist()]
    size = max(len(few), SIZES[0] + 1)  # other than where each makes the calls by itself
    more = torch.tensor(others[: size + 1 - len(few)], dtype=torch.long)
    return torch.cat((few, more)), (size, size + 1)
