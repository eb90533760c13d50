"""One batch, forward and backward: each parameter's gradient sum and per-example squared norms.

The only loop over the calls of a model. A batch holds examples of one cell, so the sum over the
batch is part of the cell's sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from analyze.gradients.fallback import FALLBACK_METHODS
from analyze.gradients.forms import Form, Summary
from analyze.gradients.intercept import Interception
from analyze.gradients.losses import Loss
from analyze.gradients.plan import Plan
from analyze.gradients.replica import Inputs, Replica
from analyze.gradients.rules import Call


class ForwardChangedError(Exception):
    """A forward pass made other calls than the plan says: control flow that depends on the data."""


@dataclass(frozen=True)
class BatchResult:
    """What one batch gives: ``gradients`` has every parameter that received a gradient."""

    losses: Tensor  # [N] float64
    accuracy: Tensor  # [N] float64, NaN where it has no meaning
    gradients: dict[str, Summary]


@dataclass
class AlgorithmChoice:
    """Times a form's algorithms once for each kind of call, and keeps the fastest."""

    chosen: dict[str, str]

    def summarise(self, form: Form) -> Summary:
        """The form's summary, by the fastest of its algorithms."""
        if len(form.algorithms) == 1:
            return form.summarise(form.algorithms[0])
        if form.key not in self.chosen:
            taken = {a: seconds(partial(form.summarise, a)) for a in form.algorithms}
            self.chosen[form.key] = min(taken, key=taken.__getitem__)
        algorithm = self.chosen[form.key]
        return form.summarise(algorithm)


def measure_batch(
    replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss, plan: Plan
) -> BatchResult:
    """Per-example gradients of one batch, summed and squared, by the plan.

    Args:
        replica: The model.
        inputs: The batch, N examples.
        targets: ``[N, ...]``.
        loss: Gives each example's loss and the seed of the backward pass.
        plan: From ``calibrate``; which algorithm is fastest for a call is added to it.

    Raises:
        ForwardChangedError: the calls are not those of the plan.

    Cost: one forward and one backward pass, of which the weight gradients are replaced by rules
    that also give the squared norms; the fallback runs the model again.
    """
    collector = _Collector(plan, len(inputs))
    names = {id(replica.parameters[name]): name for name in plan.by_rule}
    for name, parameter in replica.parameters.items():
        parameter.requires_grad_(name in plan.methods and id(parameter) in names)
    mode = Interception(names, collector.on_call)
    with mode:
        output = replica(inputs)
    collector.check_complete()
    targets = targets.to(output.device)
    with torch.no_grad():
        losses = loss.per_example(output, targets)
        accuracy = loss.accuracy(output, targets).double()
        seed = loss.seed(output, targets)
        scale = _power_of_two(seed)
        seed = seed * scale
    if names:
        leaves = [mode.anchor, *(replica.parameters[name] for name in plan.by_rule)]
        grads = torch.autograd.grad(output, leaves, seed, allow_unused=True)
        if any(g is not None for g in grads[1:]):
            raise ForwardChangedError("a parameter was used past the calls of the plan")
    gradients = collector.finish()
    for method, measure in FALLBACK_METHODS.items():
        if wanted := plan.by_fallback(method):
            gradients |= measure(replica, inputs, seed, wanted)
    return BatchResult(
        losses.double().cpu(),
        accuracy.cpu(),
        {name: _unscaled(summary, scale) for name, summary in gradients.items()},
    )


class _Collector:
    """Turns the gradients that arrive at the calls into summaries of the parameters."""

    def __init__(self, plan: Plan, count: int) -> None:
        self._plan = plan
        self._count = count
        self._uses = plan.uses
        self._wanted = set(plan.by_rule)
        self._calls = [
            (call.signature, call.layout)
            for call in plan.calls
            if any(name in self._wanted for _, name in call.signature[1])
        ]
        self._seen = 0
        self._choice = AlgorithmChoice(plan.algorithms)
        self._pending: dict[str, list[Form]] = {}
        self._done: dict[str, Summary] = {}

    def on_call(self, call: Call) -> Callable[[Tensor], None]:
        """Match the call with the plan; its output's gradient will come later."""
        if self._seen == len(self._calls):
            raise ForwardChangedError(f"one call of {call.rule.name} more than in the plan")
        signature, layout = self._calls[self._seen]
        self._seen += 1
        planned = tuple(pair for pair in signature[1] if pair[1] in self._wanted)
        if (signature[0], planned) != call.signature or layout is None:
            raise ForwardChangedError(f"{call.signature} instead of {signature}")
        if layout.count(call.data) != self._count:
            raise ForwardChangedError(f"{call.signature} saw {list(call.data.shape)}")

        def on_gradient(dy: Tensor) -> None:
            if call.data._version != call.version:
                raise ForwardChangedError(f"the input of {call.signature} was changed in place")
            with torch.no_grad():
                forms = call.rule.forms(call.arguments, dy, layout, set(call.parameters))
                for argument, form in forms.items():
                    self._add(call.parameters[argument], form)

        return on_gradient

    def check_complete(self) -> None:
        """After the forward pass: as many calls as planned."""
        if self._seen != len(self._calls):
            raise ForwardChangedError(f"{self._seen} calls instead of {len(self._calls)}")

    def finish(self) -> dict[str, Summary]:
        """After the backward pass: a call that no gradient reached gave nothing."""
        for name in list(self._pending):
            self._summarise(name)
        return self._done

    def _add(self, name: str, form: Form) -> None:
        self._pending.setdefault(name, []).append(form)
        if len(self._pending[name]) == self._uses[name]:
            self._summarise(name)

    def _summarise(self, name: str) -> None:
        first, *others = self._pending.pop(name)
        for form in others:
            first = first + form
        self._done[name] = self._choice.summarise(first)


def _power_of_two(seed: Tensor) -> float:
    """Brings the largest entry of the seed near 1 exactly, far from float32's smallest numbers."""
    largest = float(seed.abs().amax()) if seed.numel() else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0
    exponent = torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent
    return 2.0 ** -float(max(-120, min(120, int(exponent))))


def _unscaled(summary: Summary, scale: float) -> Summary:
    """Undo the seed's scale, in float64 so that nothing underflows."""
    total = summary.total
    total = total.double() if total.device.type != "mps" else total.cpu().double()
    return Summary(total / scale, summary.squared_norms / scale**2)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that some work takes: the faster of two runs, as the first may allocate."""

    def once() -> float:
        _synchronise()
        start = time.perf_counter()
        work()
        _synchronise()
        return time.perf_counter() - start

    return min(once() for _ in range(2))


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
