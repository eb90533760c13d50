"""A batch whose calls no pattern of the plan has: the plan learns them, or gives up the rules."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from analyze.gradients.calibration import calibrate
from analyze.gradients.failures import MethodFailedError, demoted
from analyze.gradients.intercept import ForwardChangedError
from analyze.gradients.patterns import alike_to, calls_of
from analyze.gradients.plan import Plan
from analyze.gradients.replica import Inputs, Replica

MOST_PATTERNS = 16  # each batch tries one after the other
TRIED = 64  # examples of a batch that may make its calls by themselves
WANTED = 5  # of them, to calibrate with


class Learned(NamedTuple):
    """What to go on with.

    Args:
        plan: With another pattern, or with other methods.
        examples: Inputs and targets that make the new pattern's calls, on which it is to be proven;
            None where there is no new one.
    """

    plan: Plan
    examples: tuple[Inputs, Tensor] | None = None


def otherwise(
    replica: Replica,
    failure: MethodFailedError | ForwardChangedError,
    plan: Plan,
    notes: list[str],
) -> Learned:
    """The plan after a batch that could not be measured by it.

    A batch with other calls gives the plan another pattern, from those of its examples that make
    these calls by themselves. Where there are none, or too many patterns already, the next method
    is left: for the parameters of the calls that did not fit, or for all that rules measure.

    Cost: ten forward and seven backward passes of three examples, and a forward pass of a batch and
    of each example that is tried.
    """
    if isinstance(failure, ForwardChangedError) and failure.batch is not None:
        inputs, targets = failure.batch
        rows = _rows(replica, inputs) if len(plan.patterns) < MOST_PATTERNS else None
        if rows is not None:
            other = calibrate(replica, inputs.take(rows), notes)
            if other.calls not in (own.calls for own in plan.patterns):
                return Learned(plan.with_pattern(other), (inputs.take(rows), targets[rows]))
    return Learned(demoted(plan, failure, notes))


def _rows(replica: Replica, inputs: Inputs) -> Tensor | None:
    """Rows that make the calls of the whole batch, alone and together."""
    rows = alike_to(replica, inputs, range(min(TRIED, len(inputs))), WANTED)
    if not len(rows) or calls_of(replica, inputs.take(rows)) != calls_of(replica, inputs):
        return None
    return rows
