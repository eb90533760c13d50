"""One batch, forward and backward: each parameter's gradient sum and per-example squared norms.

The only loop over the calls of a model. A batch holds examples of one cell or of several, which are
its segments: the sum over each is part of a cell's sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.memory import out_of_memory
from analyze.gradients.device.timing import Clock, fastest
from analyze.gradients.forms import Form, Gathered, Segments, Summary, combined
from analyze.gradients.losses import ENTRIES, Loss
from analyze.gradients.model.replica import Inputs, Replica
from analyze.gradients.numbers.kinds import as_real
from analyze.gradients.plan import FALLBACKS, NEVER_USED, ONE_AT_A_TIME, Method, Plan
from analyze.gradients.rules import Call
from analyze.gradients.step.failures import MethodFailedError, described, gives_way
from analyze.gradients.step.fallback import FALLBACK_METHODS, one_at_a_time
from analyze.gradients.step.intercept import ForwardChangedError, Interception, parameters_of
from analyze.gradients.step.seeding import seeded
from analyze.gradients.step.tracing import RowsMixExamplesError, by_example, factors, passes

TakeTotals = Callable[[str, Tensor, float], None]  # [S, *shape] of a parameter, and their scale

SEVERAL_PASSES = "a hook of the model takes gradients of its own in the backward pass"
NEAR_ONE = 8  # powers of two, of the 126 that float32 has


class OfExamples(NamedTuple):
    """What a batch gives of each of its N examples.

    Args:
        losses: ``[N]``.
        accuracy: ``[N]``.
        names: Of the P parameters that received a gradient.
        squared_norms: ``[P, N]`` float64.
    """

    losses: np.ndarray
    accuracy: np.ndarray
    names: tuple[str, ...]
    squared_norms: np.ndarray


@dataclass(frozen=True)
class BatchResult:
    """What one batch gives.

    Args:
        losses: ``[N]`` float64.
        accuracy: ``[N]`` float64, NaN where it has no meaning.
        scaled_squares: ``[N]`` of every parameter that received a gradient, of ``scale`` times the
            loss: tiny gradients stay clear of float32's smallest numbers.
        scaled_totals: Its sums over the segments, ``[S, *shape]``, where nobody else took them.
        scale: A power of two.
    """

    losses: Tensor
    accuracy: Tensor
    scaled_squares: dict[str, Tensor]
    scaled_totals: dict[str, Tensor]
    scale: float

    def squared_norms(self, name: str) -> Tensor:
        """Of each example's gradient, ``[N]`` float64 on the CPU."""
        return self.scaled_squares[name].cpu() / self.scale**2

    def of_examples(self) -> OfExamples:
        """All but the totals, in the host's memory: one wait for a GPU."""
        names = tuple(self.scaled_squares)
        norms = np.empty((0, len(self.losses)))
        if names:
            found = torch.stack([*self.scaled_squares.values()])
            norms = found.cpu().numpy() / self.scale**2
        return OfExamples(self.losses.numpy(), self.accuracy.numpy(), names, norms)

    def total(self, name: str, segment: int = 0) -> Tensor:
        """The sum over the examples of a segment, in the parameter's shape."""
        total = self.scaled_totals[name][segment]
        return total if self.scale == 1.0 else total / self.scale

    def same_bits(self, other: BatchResult) -> bool:
        """Whether another measurement of the same batch gave the very same numbers."""
        exactly = partial(torch.allclose, rtol=0.0, atol=0.0, equal_nan=True)
        return exactly(self.losses, other.losses) and all(
            mine.keys() == yours.keys() and all(exactly(mine[name], yours[name]) for name in mine)
            for mine, yours in (
                (self.scaled_squares, other.scaled_squares),
                (self.scaled_totals, other.scaled_totals),
            )
        )


@dataclass
class AlgorithmChoice:
    """Times a form's algorithms once for each kind of call, and keeps the fastest."""

    chosen: dict[str, str]

    def summarise(self, form: Form, segments: Segments) -> Summary:
        """The form's summary, by the fastest of its algorithms."""
        return form.summarise(self.of(form, segments), segments, self.summarise)

    def of(self, form: Form, segments: Segments) -> str:
        """The fastest of the form's algorithms."""
        algorithms = form.algorithms
        if len(algorithms) == 1:
            return algorithms[0]
        key = form.key
        if key not in self.chosen:
            ways = {a: partial(form.summarise, a, segments, self.summarise) for a in algorithms}
            self.chosen.setdefault(key, fastest(ways))  # another thread may have been faster
        return self.chosen[key]


def measure_batch(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    plan: Plan,
    segments: Segments | None = None,
    clock: Clock | None = None,
    take: TakeTotals | None = None,
) -> BatchResult:
    """Per-example gradients of one batch, summed and squared, by the plan.

    Args:
        replica: The model.
        inputs: The batch, N examples.
        targets: ``[N, ...]``.
        loss: Gives each example's loss and the seed of the backward pass.
        plan: From ``calibrate``; which algorithm is fastest for a call is added to it.
        segments: Of the examples, each of which gets a sum; one of all by default.
        clock: Told what each method takes.
        take: Gets the totals of each parameter as soon as they are there, and the result has none:
            no more than one gradient is held then. What it got is worth nothing if this fails.

    Raises:
        ForwardChangedError: the calls are not those of the plan.
        MethodFailedError: a rule or ``vmap`` could not work out the gradients of some parameters.

    Cost: one forward and one backward pass, of which the weight gradients are replaced by rules
    that also give the squared norms; the fallback runs the model again.
    """
    segments = segments or Segments([len(inputs)])
    try:
        return _measured(replica, inputs, targets, loss, plan, segments, clock, take)
    except ForwardChangedError as change:
        change.batch = inputs, targets
        raise


def _measured(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    plan: Plan,
    segments: Segments,
    clock: Clock | None,
    take: TakeTotals | None,
) -> BatchResult:
    collector, mode, output = _forward(
        replica, inputs, [_Collector(own, segments, clock, take) for own in plan.patterns]
    )
    losses, accuracy, seed = _at_the_output(loss, output.detach(), targets.to(output.device))
    collector.scale = _power_of_two(seed)
    seed *= collector.scale
    unused = plan.by_fallback(NEVER_USED)
    if (plan.by_rule or unused) and output.requires_grad:
        # Those of the fallbacks as well: autograd goes only where a leaf is, and what comes after
        # their layers may be measured by rule.
        attached = [name for method in FALLBACKS for name in plan.by_fallback(method)]
        leaves = [replica.parameters[name] for name in (*plan.by_rule, *unused, *attached)]
        for digit in range(passes(len(inputs)) if collector.traces else 0):
            collector.tracing = True  # nothing is measured, the rows of calls are told apart
            start = seeded(output, seed * factors(seed, digit))
            torch.autograd.grad(start, [*leaves, mode.anchor], retain_graph=True, allow_unused=True)
        collector.tracing = False
        start = seeded(output, seed)
        del output  # which may be as large as all activations, and is needed no more
        grads = torch.autograd.grad(start, [*leaves, mode.anchor], allow_unused=True)
        if any(g is not None for g in grads[: len(plan.by_rule)]):
            raise ForwardChangedError("a parameter was used past the calls of the plan")
        reached = zip(unused, grads[len(plan.by_rule) :], strict=False)
        if used := {name for name, gradient in reached if gradient is not None}:
            raise MethodFailedError(used, "other probes use them than the plan was made on")
    with torch.no_grad():
        collector.finish()
    for method in FALLBACKS:
        if wanted := plan.by_fallback(method):
            with clock.measuring(str(method)) if clock else nullcontext():
                found = _by_fallback(method, replica, inputs, seed, wanted, segments, plan)
            collector.add(found)
    return BatchResult(losses, accuracy, collector.squares, collector.totals, collector.scale)


def _forward(
    replica: Replica, inputs: Inputs, collectors: list[_Collector]
) -> tuple[_Collector, Interception, Tensor]:
    """A pass by the first pattern of calls that is the batch's, and what watched it.

    Raises:
        ForwardChangedError: there is none.
    """
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)  # calls are numbered by what carries a gradient
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    changes: list[ForwardChangedError] = []
    for collector in collectors:
        mode = Interception(collector.calls, names, collector.on_call, not collector.traces)
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


def _at_the_output(loss: Loss, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses and accuracies ``[N]`` float64 on the CPU, and the seed of the backward pass.

    A few examples at a time: losses work in float64, and a language model's logits are large.
    """
    step = max(1, ENTRIES[output.device.type] * len(output) // max(1, output.numel()))
    losses, accuracies, seed = [], [], torch.empty_like(output)
    with torch.no_grad():
        for start in range(0, len(output), step):
            rows = slice(start, start + step)
            some, seed[rows] = loss.losses_and_seed(output[rows], targets[rows])
            losses.append(some.cpu().double())
            accuracies.append(loss.accuracy(output[rows], targets[rows]).cpu().double())
    return torch.cat(losses), torch.cat(accuracies), seed


def _by_fallback(
    method: Method,
    replica: Replica,
    inputs: Inputs,
    seed: Tensor,
    names: list[str],
    segments: Segments,
    plan: Plan,
) -> dict[str, Summary]:
    """What a fallback finds.

    Raises:
        MethodFailedError: ``vmap`` cannot follow the model.
    """
    try:
        if method == ONE_AT_A_TIME:
            return one_at_a_time(replica, inputs, seed, names, segments, plan.copies)
        return FALLBACK_METHODS[method](replica, inputs, seed, names, segments)
    except Exception as error:  # the model's own forward may raise anything under vmap
        if method == ONE_AT_A_TIME or out_of_memory(error):
            raise  # nothing is left, or a smaller batch is
        raise MethodFailedError(names, f"{method} failed: {described(error)}") from error


class _Collector:
    """Turns the gradients that arrive at the calls into summaries of the parameters."""

    def __init__(
        self, plan: Plan, segments: Segments, clock: Clock | None, take: TakeTotals | None
    ) -> None:
        self._segments = segments
        self._count = segments.count
        self._clock = clock
        self._methods = plan.methods
        self._by_rule = set(plan.by_rule)
        self._misfits: list[str] = []  # what some calls saw, and whose they are
        self._misfit: set[str] = set()
        self._uses = plan.uses  # of the parameters measured by rule, no others
        self._wanted = plan.wanted
        self.calls = {call.number: call for call in plan.calls if call.number in self._wanted}
        self._choice = AlgorithmChoice(plan.algorithms)
        self.traces = any(call.traced for call in self.calls.values())
        self.tracing = False  # a backward pass before the last
        self._multiples: dict[int, list[Tensor]] = {}  # gradients of traced calls in these
        self._pending: dict[str, list[Form]] = {}
        self._small = Gathered(segments)
        self._take = take
        self.scale = 1.0  # of the loss
        self.squares: dict[str, Tensor] = {}
        self.totals: dict[str, Tensor] = {}

    def on_call(self, number: int, call: Call) -> Callable[[Tensor], Tensor | None] | None:
        """Check the call against the batch; its output's gradient will come later.

        A call that does not fit is left alone, so that all of them are known after the pass.
        """
        for argument, axis in call.axes.items():
            if not call.traced and not axis.fits(call.arguments[argument], self._count):
                shape = list(call.arguments[argument].shape)
                self._misfits.append(f"{call.rule.name} saw {shape}")
                self._misfit |= self._measured_by(call)
                return None
        call.wanted = self._wanted[number]

        def on_gradient(dy: Tensor) -> Tensor | None:
            if self.tracing:
                if call.traced:
                    self._multiples.setdefault(number, []).append(dy)
                return None
            if not call.arguments:
                raise MethodFailedError(self._measured_by(call), SEVERAL_PASSES)
            if not call.traced and not call.output.fits(dy, self._count):
                gave = f"{call.rule.name} gave {list(dy.shape)}"
                raise ForwardChangedError(gave, self._measured_by(call))
            if call.changed_in_place():
                raise ForwardChangedError(f"the input of {call.rule.name} was changed in place")
            try:
                # Autograd records nothing here: hooks run in the mode of the backward pass.
                if self._clock is None:
                    return self._add_call(number, call, dy)
                with self._clock.measuring(call.rule.name):
                    return self._add_call(number, call, dy)
            except RowsMixExamplesError as error:
                reason = f"of a call of {call.rule.name} {error}"
                raise MethodFailedError(self._measured_by(call), reason) from error
            except Exception as error:
                self._give_way(self._measured_by(call), call.rule.name, error)
                raise

        return on_gradient

    def _give_way(self, names: Collection[str], rule: str, error: Exception) -> None:
        """Whatever goes wrong in a rule, other methods are left.

        Raises:
            MethodFailedError: they are to be tried.
        """
        if gives_way(error):
            reason = f"the rule {rule} failed: {described(error)}"
            raise MethodFailedError(names, reason) from error

    def check_complete(self, seen: int) -> None:
        """After the forward pass: as many calls as planned, and all of them fit."""
        if seen != len(self.calls):
            raise ForwardChangedError(f"{seen} calls instead of {len(self.calls)}")
        if self._misfits:
            raise ForwardChangedError(self._misfits[0], self._misfit)

    def check_apart(self, output: Tensor, names: Mapping[int, str]) -> None:
        """No gradient goes past the calls to a parameter that they measure."""
        if any(name in self._by_rule for name in parameters_of(output, names)):
            raise ForwardChangedError("a parameter is used past the calls of the plan")

    def _measured_by(self, call: Call) -> set[str]:
        """The parameters of a call that are measured by rule."""
        own = {name for w in call.weights.values() for name in w.parameters}
        return own & self._uses.keys()

    def finish(self) -> None:
        """After the backward pass: a call that no gradient reached gave nothing."""
        for name in list(self._pending):
            try:
                self._summarise(name)
            except Exception as error:
                self._give_way({name}, str(self._methods[name]), error)
                raise
        self.add(self._small.summaries())

    def add(self, found: Mapping[str, Summary]) -> None:
        """Parameters that are done."""
        for name, summary in found.items():
            self.squares[name] = summary.squared_norms
            if self._take is None:
                self.totals[name] = summary.totals
            else:
                self._take(name, summary.totals, self.scale)

    def _add_call(self, number: int, call: Call, dy: Tensor) -> Tensor | None:
        """Add the gradients of a call; a parameter is done when all of its uses are there.

        Returns:
            The gradient of the call's fused argument, where that is wanted.
        """
        given = call
        if call.traced:
            together = by_example(call, dy, self._multiples.pop(number, []), self._count)
            if together is None:
                return None
            call, dy = together
        forms = call.rule.forms(call, dy)
        fused = forms.pop(call.rule.fused, None) if call.rule.fused else None
        for argument, form in forms.items():
            for name, own in call.weights[argument].forms(form, self._uses).items():
                if name not in self._uses:
                    continue
                self._pending.setdefault(name, []).append(own)
                if len(self._pending[name]) == self._uses[name]:
                    self._summarise(name)
        given.release()
        return None if fused is None else fused.explicit(0, fused.count)

    def _summarise(self, name: str) -> None:
        form = combined(self._pending.pop(name))
        algorithm = self._choice.of(form, self._segments)
        if self._small.takes(form, algorithm):
            self._small.add(name, form, algorithm)
        else:
            summary = form.summarise(algorithm, self._segments, self._choice.summarise)
            self.add({name: summary})


def _power_of_two(seed: Tensor) -> float:
    """Brings a seed far below or above 1 there exactly, far from float32's smallest numbers.

    1 where the largest entry is near it already: sums need not be divided again then.
    """
    if not seed.numel():
        return 1.0
    largest = max(abs(float(value)) for value in as_real(seed).aminmax())
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0
    exponent = math.frexp(largest)[1]
    return 1.0 if abs(exponent) <= NEAR_ONE else 2.0 ** -float(max(-120, min(120, exponent)))
