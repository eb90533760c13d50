"""The gradients that arrive at the calls, collected and reduced parameter by parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from analyze.errors import described
from analyze.gradients.costs.choice import AlgorithmError, Choice, blame, summarised
from analyze.gradients.device.timing import Clock
from analyze.gradients.forms import Form, Gathered, Reduction, Segments, Summary, combined
from analyze.gradients.forms.doubts import Doubts, Norms
from analyze.gradients.plan import Plan
from analyze.gradients.rules import Call
from analyze.gradients.step.along import Along
from analyze.gradients.step.failures import AlgorithmFailedError, MethodFailedError, gives_way
from analyze.gradients.step.intercept import ForwardChangedError, parameters_of
from analyze.gradients.step.result import TakeTotals
from analyze.gradients.step.tracing import RowsMixExamplesError, by_example

SEVERAL_PASSES = "a hook of the model takes gradients of its own in the backward pass"


class Collector:
    """Turns the gradients that arrive at one pattern of calls into summaries of the parameters."""

    def __init__(
        self,
        plan: Plan,
        segments: Segments,
        choice: Choice,
        clock: Clock | None,
        take: TakeTotals | None,
        along: Along | None = None,
    ) -> None:
        self._plan = plan
        self._segments = segments
        self._choice = choice
        self._clock = clock
        self._take = take
        self._along = along
        self._misfits: list[str] = []  # what some calls saw
        self._misfit: set[str] = set()  # parameters of those calls
        self._uses = plan.uses  # of the parameters measured by rule, no others
        self.calls = {call.number: call for call in plan.calls if call.number in plan.wanted}
        self.traces = any(call.traced for call in self.calls.values())
        self.tracing = False  # a backward pass before the last
        self._multiples: dict[int, list[Tensor]] = {}  # gradients of traced calls in these
        self._pending: dict[str, list[Form]] = {}
        self._bytes: Counter[str] = Counter()  # of what those forms are made of
        self._doubts = Doubts()
        self._small = Gathered(segments)
        self.unscale = torch.ones(())  # what takes the scale of the loss back
        self.squares: dict[str, Tensor] = {}
        self.totals: dict[str, Tensor] = {}
        self.dots: dict[str, Tensor] = {}

    def on_call(self, number: int, call: Call) -> Callable[[Tensor], Tensor | None] | None:
        """Check the call against the batch; its output's gradient will come later.

        A call that does not fit is left alone, so that all of them are known after the pass.
        """
        for argument, axis in call.axes.items():
            if not call.traced and not axis.fits(call.arguments[argument], self._segments.count):
                shape = list(call.arguments[argument].shape)
                self._misfits.append(f"{call.rule.name} saw {shape}")
                self._misfit |= self._measured_by(call)
                return None
        call.wanted = self._plan.wanted[number]
        return partial(self._on_gradient, number, call)

    def check_complete(self, seen: int) -> None:
        """After the forward pass: as many calls as planned, and all of them fit."""
        if seen != len(self.calls):
            raise ForwardChangedError(f"{seen} calls instead of {len(self.calls)}")
        if self._misfits:
            raise ForwardChangedError(self._misfits[0], self._misfit)

    def check_apart(self, output: Tensor, names: Mapping[int, str]) -> None:
        """No gradient goes past the calls to a parameter that they measure."""
        if not parameters_of(output, names).keys().isdisjoint(self._plan.by_rule):
            raise ForwardChangedError("a parameter is used past the calls of the plan")

    def finish(self) -> None:
        """After the backward pass: a call that no gradient reached gave nothing."""
        for name in list(self._pending):
            try:
                self._summarise(name)
            except Exception as error:
                self._give_way({name}, str(self._plan.methods[name]), error)
                raise
        self.add(self._small.summaries())
        self._doubts.settle()

    def add(self, summaries: Mapping[str, Summary]) -> None:
        """Keep or hand over the summaries of parameters that are done."""
        for name, summary in summaries.items():
            self.squares[name] = summary.squared_norms
            if self._take is None:
                self.totals[name] = summary.totals
            else:
                self._take(name, summary.totals, self.unscale)

    def reduction(self, name: str) -> Reduction:
        """An empty reduction for a parameter that a fallback measures."""
        along = self._along
        return Reduction(self._segments, directions=None if along is None else along.of(name))

    def add_reduced(self, reduced: Mapping[str, Reduction]) -> None:
        """Keep or hand over what a fallback gave."""
        if self._along is not None:
            dots = {name: r.dots for name, r in reduced.items()}
            self.dots |= {n: self._along.unscaled(n, d) for n, d in dots.items() if d is not None}
        if self._along is None or not self._along.alone:
            self.add({name: r.summary() for name, r in reduced.items()})

    def _on_gradient(self, number: int, call: Call, dy: Tensor) -> Tensor | None:
        """Take the gradient at a call's output; return that of a fused argument that is wanted."""
        if self.tracing:
            if call.traced:
                self._multiples.setdefault(number, []).append(dy)
            return None
        if not call.arguments:
            raise MethodFailedError(self._measured_by(call), SEVERAL_PASSES)
        if not call.traced and not call.output.fits(dy, self._segments.count):
            gave = f"{call.rule.name} gave {list(dy.shape)}"
            raise ForwardChangedError(gave, self._measured_by(call))
        if call.changed_in_place():
            raise ForwardChangedError(f"the input of {call.rule.name} was changed in place")
        try:
            # Autograd records nothing here: hooks run in the mode of the backward pass.
            with self._clock.measuring(call.rule.name) if self._clock else nullcontext():
                return self._add_call(number, call, dy)
        except RowsMixExamplesError as error:
            reason = f"of a call of {call.rule.name} {error}"
            raise MethodFailedError(self._measured_by(call), reason) from error
        except Exception as error:
            self._give_way(self._measured_by(call), call.rule.name, error)
            raise

    def _add_call(self, number: int, call: Call, dy: Tensor) -> Tensor | None:
        """Add the gradients of a call; a parameter is done when all of its uses are there."""
        regular = call
        if call.traced:
            multiples = self._multiples.pop(number, [])
            together = by_example(call, dy, multiples, self._segments.count)
            if together is None:
                return None
            regular, dy = together
        held = dy.nbytes + sum(regular.arguments[name].nbytes for name in regular.axes)
        forms = call.rule.forms(regular, dy)
        fused = forms.pop(call.rule.fused, None) if call.rule.fused else None
        for argument, form in forms.items():
            for name, of_parameter in call.weights[argument].forms(form, self._uses).items():
                if name not in self._uses:
                    continue
                self._pending.setdefault(name, []).append(of_parameter)
                self._bytes[name] += held
                if len(self._pending[name]) == self._uses[name]:
                    self._summarise(name)
        call.release()
        return None if fused is None else fused.explicit(0, fused.count)

    def _summarise(self, name: str) -> None:
        form = combined(self._pending.pop(name))
        if self._along is not None:
            directions = self._along.of(name)
            directions = directions.reshape(len(directions), *form.shape)
            dots = form.dots(directions, self._choice.making(form, self._segments))
            self.dots[name] = self._along.unscaled(name, dots)
            if self._along.alone:
                return
        algorithm = self._choice.of(form, self._segments)
        if self._small.takes(form, algorithm):
            try:
                self._small.add(name, form, algorithm)
            except Exception as error:
                blame(self._choice, form, algorithm, error)
                raise
        else:
            summary = summarised(self._choice, form, self._segments, algorithm)
            norms = Norms(summary.squared_norms, summary.unsure)
            self._doubts.add(norms, form.certain, self._bytes[name])
            self.add({name: summary})

    def _measured_by(self, call: Call) -> set[str]:
        """The parameters of a call that are measured by rule."""
        names = {name for weight in call.weights.values() for name in weight.parameters}
        return names & self._uses.keys()

    def _give_way(self, names: Collection[str], rule: str, error: Exception) -> None:
        """Raise what leads to another algorithm or method where one is to be tried after it."""
        if isinstance(error, AlgorithmError):
            cause = error.__cause__
            if isinstance(cause, Exception) and not gives_way(cause):
                raise cause
            raise AlgorithmFailedError.of(names, error) from error
        if gives_way(error):
            reason = f"the rule {rule} failed: {described(error)}"
            raise MethodFailedError(names, reason) from error
