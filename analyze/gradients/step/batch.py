"""One batch, forward and backward: each parameter's gradient sum and per-example squared norms.

The only loop over the calls of a model. A batch holds examples of one cell or of several, which are
its segments: the sum over each is part of a cell's sum.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from analyze.gradients.costs.choice import ByCost, Choice
from analyze.gradients.device.sending import sent
from analyze.gradients.device.timing import Clock
from analyze.gradients.forms import Segments
from analyze.gradients.losses import Loss
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import FALLBACKS, NEVER_USED, Plan
from analyze.gradients.step.along import Along
from analyze.gradients.step.collector import Collector
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.fallback import by_fallback
from analyze.gradients.step.intercept import ForwardChangedError, Interception
from analyze.gradients.step.output import at_the_output, seeded
from analyze.gradients.step.result import BatchResult, TakeTotals
from analyze.gradients.step.tracing import factors, passes


def measure_batch(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    plan: Plan,
    segments: Segments | None = None,
    clock: Clock | None = None,
    take: TakeTotals | None = None,
    choice: Choice | None = None,
    along: Along | None = None,
) -> BatchResult:
    """Per-example gradients of one batch, summed and squared, by the plan.

    The algorithm of each call is by ``choice``, by default the cheapest for the plan's batches, and
    added to the plan. Each segment gets a sum; all examples are one by default. ``take`` gets the
    totals of each parameter as soon as they are there, and the result has none: no more than one
    gradient is held then. What it got is worth nothing if this fails. ``along`` has directions that
    each gradient is multiplied with.

    Raises:
        ForwardChangedError: the calls are not those of the plan.
        MethodFailedError: a rule or ``vmap`` could not work out the gradients of some parameters.

    Cost: one forward and one backward pass, of which the weight gradients are replaced by rules
    that also give the squared norms; the fallback runs the model again.
    """
    segments = segments or Segments([len(inputs)])
    choice = choice or ByCost(plan.algorithms, plan.batch, plan.failed)
    try:
        collectors = [Collector(p, segments, choice, clock, take, along) for p in plan.patterns]
        collector, mode, output = _forward(replica, inputs, collectors)
        losses, accuracy, margin, seed, scale = at_the_output(
            loss, output.detach(), sent(targets, output.device)
        )
        collector.unscale = scale.reciprocal()
        leaves = _leaves(replica, plan) if output.requires_grad else {}
        digits = range(passes(len(inputs)) if collector.traces and leaves else 0)
        starts = [seeded(output, seed * factors(seed, digit)) for digit in digits]
        starts.append(seeded(output, seed))
        del output  # which may be as large as all activations, and is needed no more
        if leaves:
            _backward(starts, leaves, mode.anchor, plan, collector)
        with torch.no_grad():
            collector.finish()
    except ForwardChangedError as change:
        change.batch = inputs, targets
        raise
    for method in FALLBACKS:
        if plan.by_fallback(method):
            with clock.measuring(str(method)) if clock else nullcontext():
                reduced = by_fallback(method, replica, inputs, seed, plan, collector.reduction)
            collector.add_reduced(reduced)
    of_examples = losses, accuracy, margin
    return BatchResult(of_examples, collector.squares, collector.dots, collector.totals, scale)


def _leaves(replica: Replica, plan: Plan) -> dict[str, Tensor]:
    """The parameters that autograd is asked for; none where all are left to the fallbacks.

    Those of the fallbacks are among them: autograd goes only where a leaf is, and what comes after
    their layers may be measured by rule.
    """
    unused = plan.by_fallback(NEVER_USED)
    if not (plan.by_rule or unused):
        return {}
    attached = [name for method in FALLBACKS for name in plan.by_fallback(method)]
    return {name: replica.parameters[name] for name in (*plan.by_rule, *unused, *attached)}


def _backward(
    starts: list[Tensor],
    leaves: dict[str, Tensor],
    anchor: Tensor,
    plan: Plan,
    collector: Collector,
) -> None:
    """Backward passes, of which the last hands the gradients at the calls to the collector.

    Raises:
        ForwardChangedError: a gradient came to a parameter past the calls of the plan.
        MethodFailedError: one came to a parameter that seemed unused.
    """
    wanted = [*leaves.values(), anchor]
    collector.tracing = True  # nothing is measured, the rows of calls are told apart
    while len(starts) > 1:
        torch.autograd.grad(starts.pop(0), wanted, retain_graph=True, allow_unused=True)
    collector.tracing = False
    grads = torch.autograd.grad(starts.pop(), wanted, allow_unused=True)
    reached = {name for name, grad in zip(leaves, grads, strict=False) if grad is not None}
    if reached & {*plan.by_rule}:
        raise ForwardChangedError("a parameter was used past the calls of the plan")
    if used := reached & {*plan.by_fallback(NEVER_USED)}:
        raise MethodFailedError(used, "other probes use them than the plan was made on")


def _forward(
    replica: Replica, inputs: Inputs, collectors: list[Collector]
) -> tuple[Collector, Interception, Tensor]:
    """A forward pass by the first pattern of calls that fits the batch, and what watched it.

    Raises:
        ForwardChangedError: none fits.
    """
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)  # calls are numbered by what carries a gradient
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    changes: list[ForwardChangedError] = []
    for collector in collectors:
        mode = Interception(
            collector.calls, names, collector.on_call, replica.device, not collector.traces
        )
        try:
            with mode if collector.calls else nullcontext():
                output = replica(inputs)
            collector.check_complete(mode.seen)
            if len(collectors) > 1:  # before anything is taken, so that the next can be tried
                collector.check_apart(output, names)
            return collector, mode, output
        except ForwardChangedError as change:  # whose frames hold the pass
            changes.append(ForwardChangedError(str(change), change.parameters))
    # The one that comes closest: all of its calls but some are the batch's.
    raise next((change for change in changes if change.parameters), changes[0])
