"""Makes the state by which models are measured, and proves it: refuse, calibrate, choose, prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from analyze.errors import out_of_memory
from analyze.gradients.architecture import Architecture
from analyze.gradients.bench import Bench
from analyze.gradients.calibrate.calibration import calibrated
from analyze.gradients.calibrate.learning import replanned
from analyze.gradients.checks.at_the_output import check_loss
from analyze.gradients.checks.fit import check_fit
from analyze.gradients.checks.non_finite import check_losses
from analyze.gradients.checks.precision import precision_inside
from analyze.gradients.checks.proving import prove
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.checks.refusal import differ, refuse_frequency_scaling, refuse_mixing
from analyze.gradients.costs.passes import PassCost, cost_of
from analyze.gradients.data.loader import Examples
from analyze.gradients.device.devices import equal_batches, largest_batch_size
from analyze.gradients.device.memory import Memory
from analyze.gradients.device.timing import Budget
from analyze.gradients.model.replica import Replica
from analyze.gradients.state import EngineState
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.intercept import CountedCalls, ForwardChangedError
from analyze.gradients.step.output import losses_at_output
from analyze.gradients.step.result import BatchResult
from analyze.gradients.threads.isolation import undisturbed
from analyze.gradients.threads.sharing import worthwhile_shares
from analyze.gradients.tuning import fastest_size, largest_to_try

Result = TypeVar("Result")
FIRST_EXAMPLES = 5  # probes that a model is tried and calibrated on
PROVEN_EXAMPLES = 4  # probes compared with plain autograd when a plan is proven
SHARE_OF_TUNING = 0.02  # of the estimated time of a run
DISTURBING = 2  # probes in each thread that tell whether forward passes disturb each other
NOT_REPEATABLE = (
    "the same batch measured twice gives other bits on {device}: results agree within rounding, "
    "and a run that is resumed may differ in the last digits"
)
NOT_ISOLATED = (
    "this model draws random numbers, or keeps something outside of its modules, so that forward "
    "passes in threads disturb each other: one batch is measured at a time"
)
BESIDE_ITSELF = (
    "torch's backward pass is wrong for a batch of one here, by finite differences: the proof "
    "compares with each example beside itself"
)


@dataclass(frozen=True)
class Planner:
    """Makes and proves states."""

    bench: Bench

    def first(
        self, model: nn.Module, threads: int, turns: int, earlier: Mapping[str, Any] | None
    ) -> EngineState:
        """A state made and proven on a first model, which is taken over; see ``Engine.prepare``.

        ``turns`` models will be measured by it one after the other.

        Raises:
            CheckpointError: the model's losses or gradients are not finite.
            InputError: the model cannot be measured.
        """
        replica, state, reference = self._begun(model)
        if earlier is not None:
            state = state.with_choices_of(earlier)
        else:
            state = self._with_choices(state, replica, threads, turns)
        truth = state.architecture.autograd(reference, self.bench.loss, state.plan.copies)
        return self.proven_on(state, truth, self.bench.rows(PROVEN_EXAMPLES))

    def _begun(self, model: nn.Module) -> tuple[Replica, EngineState, Replica]:
        """A replica of a model that can be measured, a state yet unproven, and a reference."""
        bench = self.bench
        pair, rows = bench.some(2).inputs, bench.rows(FIRST_EXAMPLES)
        few = bench.loader.take(rows)
        architecture, notes = Architecture.of(model, bench.settings)
        replica, architecture = architecture.replica(model, pair)
        notes += replica.notes
        bench.statistics.set(replica)
        fit = check_fit(replica, bench.loader, rows, bench.loss)
        # Nothing can be found out by value from a model that gives no finite numbers.
        losses = losses_at_output(fit.output, few.targets, bench.loss)
        check_losses(losses, rows, bench.cells, replica, bench.loader.inputs)
        notes += [*fit.notes, *sorted(replica.undone), *bench.statistics.notes(replica, rows)]
        refuse_frequency_scaling(replica.model)
        check_loss(bench.loss, fit.output, few.targets)
        architecture, reference = architecture.with_reference(replica, pair)
        calibration = calibrated(replica, few.inputs)
        inside = precision_inside(replica, calibration.recording)
        architecture = replace(architecture, inside=inside)
        if not calibration.steady or differ(fit.output[:1], fit.alone, inside):
            refuse_mixing(reference, few.inputs, architecture.inside_exact)
        memory, cost = Memory(architecture.device), self._cost(replica)
        state = EngineState(architecture, calibration.plan, memory, cost, notes=tuple(notes))
        return replica, state.with_plan(calibration.plan), reference

    def _cost(self, replica: Replica) -> PassCost:
        """The work of a pass over a probe, with what is opened while measuring in the open."""
        example = self.bench.some(1).inputs

        def forward() -> None:
            with CountedCalls():
                replica(example)

        return cost_of(forward, replica)

    def again(self, state: EngineState, model: nn.Module) -> EngineState:
        """The state proven on another model as well, which is taken over."""
        replica, state = self.replica(state, model)
        self.bench.statistics.set(replica)
        return self.proven(state, replica, self.bench.rows(PROVEN_EXAMPLES))

    def replica(self, state: EngineState, model: nn.Module) -> tuple[Replica, EngineState]:
        """A replica of a further model, and the state with what the user should know of it."""
        replica, _ = state.architecture.replica(model, self.bench.some(2).inputs)
        return replica, state.noting(*replica.notes)

    def truth(self, state: EngineState, replica: Replica) -> Autograd:
        """Plain autograd of the replica's reference."""
        return state.architecture.truth(replica, self.bench.loss, state.plan.copies)

    def proven(self, state: EngineState, replica: Replica, rows: np.ndarray) -> EngineState:
        """The state with plan and proof brought up to date on some probes of a model."""
        return self.proven_on(state, self.truth(state, replica), rows)

    def proven_on(self, state: EngineState, truth: Autograd, rows: np.ndarray) -> EngineState:
        """The state with plan and proof brought up to date on some probes, by a reference."""
        if len(rows) == 1:  # torch's backward pass may be wrong for a batch of one
            rows = np.unique([rows[0], (rows[0] + 1) % len(self.bench.probes)])
        return self._proven_with(state, truth, self.bench.loader.take(rows))

    def _proven_with(self, state: EngineState, truth: Autograd, examples: Examples) -> EngineState:
        plan, proof = prove(truth, examples, state.plan, state.proof)
        state = replace(state.with_plan(plan), proof=proof)
        return state.noting(BESIDE_ITSELF) if plan.copies > 1 else state

    def by_methods_that_work(
        self, state: EngineState, replica: Replica, work: Callable[[EngineState], Result]
    ) -> tuple[Result, EngineState]:
        """The result of some work, and the state by which it succeeded.

        Where the work fails, the state gets another pattern of calls, proven like the first; other
        methods; or less memory.
        """
        while True:
            try:
                return work(state), state
            except (ForwardChangedError, MethodFailedError) as failure:
                plan, examples = replanned(replica, failure, state.plan)
                state = state.with_plan(plan)
                if examples is not None:
                    state = self._proven_with(state, self.truth(state, replica), examples)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                memory, note = state.memory.lowered(len(self.bench.cells), replica.values)
                state = replace(state, memory=memory).noting(note)

    def _with_choices(
        self, state: EngineState, replica: Replica, threads: int, turns: int
    ) -> EngineState:
        """The state with shares, batch size and algorithms; only ``tune`` asks a clock."""
        state = self._shared(self._with_batch_size(state), replica, threads)
        state = self._with_batch_size(state)
        with threads_of_a_batch(state):
            if self.bench.settings.tune:
                state = self._tuned(state, replica, turns)
            return self._repeated(state, replica)

    def _tuned(self, state: EngineState, replica: Replica, turns: int) -> EngineState:
        """The state with the batch size that the clock finds fastest, if none is asked for."""
        state = replace(state, tuned=True)
        if self.bench.settings.batch_size != "auto":
            return state
        budget = Budget(SHARE_OF_TUNING * turns * state.seconds(len(self.bench.probes)))
        time_sizes = partial(fastest_size, self.bench, replica, budget)
        state = state.with_batch_size(largest_to_try(state, len(self.bench.probes)))
        size, state = self.by_methods_that_work(state, replica, time_sizes)
        return state.with_batch_size(size)

    def _with_batch_size(self, state: EngineState) -> EngineState:
        """The state with the batch size that is asked for, or the best for its shares."""
        size = self.bench.settings.batch_size
        if size == "auto":
            largest = largest_batch_size(state.architecture.device, state.cost.kept, state.shares)
            size = equal_batches(len(self.bench.probes), largest, state.shares)
        return state.with_batch_size(int(size))

    def _shared(self, state: EngineState, replica: Replica, threads: int) -> EngineState:
        """The state with as many shares as are worth it."""
        bench = self.bench
        examples = len(bench.probes)
        shares = worthwhile_shares(examples, state.seconds(examples), threads)
        if shares == 1:
            return state
        parts = np.array_split(bench.rows(DISTURBING * shares), shares)
        batches = [bench.loader.take(part).inputs for part in parts]
        if undisturbed(replicas(replica, shares), batches):
            return replace(state, shares=shares)
        return state.noting(NOT_ISOLATED)

    def _repeated(self, state: EngineState, replica: Replica) -> EngineState:
        """The state that knows whether the same batch gives the same bits twice.

        The first time, algorithms are chosen, so that the proof uses those of the run.
        """

        def batch(state: EngineState) -> BatchResult:
            batches = self.bench.batches(state.memory, state.plan.copies)
            return batches.measured(replica, state.plan, batches.first(replica))

        first, state = self.by_methods_that_work(state, replica, batch)
        second, state = self.by_methods_that_work(state, replica, batch)
        if first.same_bits(second):
            return state
        note = NOT_REPEATABLE.format(device=state.architecture.device.type)
        return replace(state, repeatable=False).noting(note)


def replicas(replica: Replica, threads: int) -> list[Replica]:
    """A replica for each thread, the first of them the given one."""
    return [replica, *(replica.for_another_thread() for _ in range(threads - 1))]


@contextmanager
def threads_of_a_batch(state: EngineState) -> Iterator[None]:
    """In the block torch has as many threads as a batch is measured with."""
    with threads_restored():
        if state.shares > 1:
            torch.set_num_threads(1)
        yield
