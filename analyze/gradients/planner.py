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
from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.calibrate.learning import replanned
from analyze.gradients.checks.fit import check_fit
from analyze.gradients.checks.non_finite import check_losses
from analyze.gradients.checks.proving import prove
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.checks.refusal import refuse_mixing
from analyze.gradients.data.loader import Examples
from analyze.gradients.device.devices import choose_batch_size
from analyze.gradients.device.memory import Memory
from analyze.gradients.device.timing import fastest, seconds
from analyze.gradients.model.replica import Replica
from analyze.gradients.stages import (
    CALIBRATION,
    CHOICES,
    FIT,
    MIXING,
    PROOF,
    STATISTICS,
    Announce,
    unheard,
)
from analyze.gradients.state import EngineState
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.intercept import ForwardChangedError
from analyze.gradients.step.output import losses_of
from analyze.gradients.step.result import BatchResult
from analyze.gradients.threads.isolation import undisturbed
from analyze.gradients.threads.sharing import worthwhile_shares

Result = TypeVar("Result")
PROVEN_EXAMPLES = 4  # probes compared with plain autograd when a plan is proven
SAMPLED = 8  # probes whose forward pass tells how long a measurement takes
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
    announce: Announce = unheard  # the stages of first and again

    def first(
        self, model: nn.Module, threads: int, earlier: Mapping[str, Any] | None
    ) -> EngineState:
        """A state made and proven on a first model, which is taken over; see ``Engine.prepare``.

        Raises:
            CheckpointError: the model's losses or gradients are not finite.
            InputError: the model cannot be measured.
        """
        replica, state = self._begun(model)
        if earlier is not None:
            state = state.with_choices_of(earlier)
        else:
            self.announce(CHOICES)
            state = self._with_choices(state, replica, threads)
        self.announce(PROOF)
        return self.proven(state, replica, self.bench.rows(PROVEN_EXAMPLES))

    def _begun(self, model: nn.Module) -> tuple[Replica, EngineState]:
        """A replica of a model that can be measured, and a state whose plan is still unproven."""
        bench = self.bench
        pair, rows = bench.some(2).inputs, bench.rows(5)
        architecture, notes = Architecture.of(model, bench.settings)
        replica, architecture = architecture.replica(model, pair)
        notes += replica.notes
        self._set_statistics(replica)
        self.announce(FIT)
        notes += check_fit(replica, bench.loader, bench.rows(2), bench.loss)
        # Nothing can be found out by value from a model that gives no finite numbers.
        losses = losses_of(replica, bench.loader.take(rows), bench.loss)
        check_losses(losses, rows, bench.cells, replica, bench.loader.inputs)
        notes += [*sorted(replica.undone), *bench.statistics.notes(replica, rows)]
        self.announce(MIXING)
        architecture, reference = architecture.with_precisions(replica, pair)
        refuse_mixing(reference, *bench.some(3), bench.loss, architecture.inside_exact)
        self.announce(CALIBRATION)
        plan = calibrate(replica, bench.loader.take(rows).inputs)
        state = EngineState(architecture, plan, Memory(architecture.device), notes=tuple(notes))
        return replica, state.with_plan(plan)

    def again(self, state: EngineState, model: nn.Module) -> EngineState:
        """The state proven on another model as well, which is taken over."""
        replica, state = self.replica(state, model)
        self._set_statistics(replica)
        self.announce(PROOF)
        return self.proven(state, replica, self.bench.rows(PROVEN_EXAMPLES))

    def _set_statistics(self, replica: Replica) -> None:
        """Give a replica the batch norm statistics that it is measured with."""
        if self.bench.statistics.passes_to_set(replica.model):
            self.announce(STATISTICS)
        self.bench.statistics.set(replica)

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

    def seconds_of_forward(self, replica: Replica, rows: np.ndarray) -> float:
        """Seconds of a forward pass for one example, measured over some probes."""
        inputs = self.bench.loader.take(rows).inputs
        with torch.no_grad():
            return seconds(lambda: replica(inputs)) / len(inputs)

    def _with_choices(self, state: EngineState, replica: Replica, threads: int) -> EngineState:
        """The state with the shares, batch size and algorithms that are fastest."""
        state, size = self._shared(state, replica, threads), self.bench.settings.batch_size
        example = self.bench.some(1).inputs
        largest = choose_batch_size(replica, example, state.shares) if size == "auto" else size
        state = state.with_batch_size(int(largest))
        with threads_of_a_batch(state):
            state = self._with_algorithms(state, replica)
            if size == "auto":
                time_sizes = partial(self._fastest_size, replica)
                fastest_size, state = self.by_methods_that_work(state, replica, time_sizes)
                state = state.with_batch_size(fastest_size)
        return state

    def _shared(self, state: EngineState, replica: Replica, threads: int) -> EngineState:
        """The state with as many shares as are worth it."""
        if threads == 1:
            return state
        bench = self.bench
        forward = self.seconds_of_forward(replica, bench.rows(SAMPLED))
        shares = worthwhile_shares(len(bench.probes), forward, threads)
        if shares == 1:
            return state
        parts = np.array_split(bench.rows(max(SAMPLED, shares)), shares)
        batches = [bench.loader.take(part).inputs for part in parts]
        if undisturbed(replicas(replica, shares), batches):
            return replace(state, shares=shares)
        return state.noting(NOT_ISOLATED)

    def _with_algorithms(self, state: EngineState, replica: Replica) -> EngineState:
        """Time the algorithms on a batch, so that the proof uses those of the run.

        If the batch size is to be chosen by timing, the smallest candidate is used: the fastest
        algorithm hardly depends on it. The batch is then measured once more: a run can be repeated
        to the bit only where the same bits come out.
        """
        auto = self.bench.settings.batch_size == "auto"
        size = min(self._sizes(state)) if auto else state.memory.batch_size

        def batch(state: EngineState) -> BatchResult:
            batches = self.bench.batches(state.memory, state.plan.copies)
            first_batch = batches.first(replica, min(size, state.memory.batch_size))
            return batches.measured(replica, state.plan, first_batch)

        first, state = self.by_methods_that_work(state, replica, batch)
        second, state = self.by_methods_that_work(state, replica, batch)
        if first.same_bits(second):
            return state
        note = NOT_REPEATABLE.format(device=state.architecture.device.type)
        return replace(state, repeatable=False).noting(note)

    def _fastest_size(self, replica: Replica, state: EngineState) -> int:
        """The largest size that fits, or a part of it, by timing: on a CPU the caches decide."""
        batches = self.bench.batches(state.memory, state.plan.copies)
        sizes = self._sizes(state)
        ways = {
            size: partial(batches.measured, replica, state.plan, batches.first(replica, size))
            for size in sizes
        }
        return fastest(ways, done={size: size for size in sizes}, rounds=2)

    def _sizes(self, state: EngineState) -> list[int]:
        """Batch sizes of which the fastest is taken, the largest that fits last."""
        most = min(state.memory.batch_size, len(self.bench.probes) // state.shares)
        return sorted({max(1, most // part) for part in (1, 2, 4)})


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
