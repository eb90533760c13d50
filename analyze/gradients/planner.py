"""Makes the state by which models are measured, and proves it: refuse, calibrate, choose, prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from analyze.errors import out_of_memory
from analyze.gradients.architecture import Architecture
from analyze.gradients.calibrate.calibration import calibrated
from analyze.gradients.calibrate.learning import replanned
from analyze.gradients.checks.at_the_output import check_loss
from analyze.gradients.checks.fit import Fit, check_fit, refused_if_failing
from analyze.gradients.checks.non_finite import check_losses
from analyze.gradients.checks.precision import precision_inside
from analyze.gradients.checks.proving import prove
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.checks.refusal import differ, refuse_frequency_scaling, refuse_mixing
from analyze.gradients.costs.passes import PassCost, cost_of
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.data.loader import Examples
from analyze.gradients.device.devices import equal_batches, is_cpu, largest_batch_size
from analyze.gradients.device.memory import Held, Memory, let_go
from analyze.gradients.device.timing import Budget
from analyze.gradients.model.replica import Replica
from analyze.gradients.stages import (
    CALIBRATION,
    CHOICES,
    FIT,
    PROOF,
    STATISTICS,
    Announce,
    unheard,
)
from analyze.gradients.state import EngineState
from analyze.gradients.step.batch_norm import Saved
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.intercept import CountedCalls, ForwardChangedError, parameters_of
from analyze.gradients.step.output import losses_at_output
from analyze.gradients.step.result import BatchResult
from analyze.gradients.threads.isolation import undisturbed
from analyze.gradients.threads.sharing import worthwhile_shares
from analyze.gradients.tuning import fastest_size, largest_to_try, time_algorithms
from analyze.gradients.workload import Workload

Result = TypeVar("Result")
GIVING_WAY = (ForwardChangedError, MethodFailedError)  # errors after which there is another plan
FIRST_EXAMPLES = 5  # probes that a model is tried and calibrated on
PAIR = 2  # probes that a plan is proven on which has measured a model like it
PROVEN_EXAMPLES = 3  # probes compared with plain autograd when a plan is proven
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
class Ready:
    """A model that can be measured as it is, by a state that is proven on it."""

    replica: Replica
    saved: Saved  # the statistics of batch norm that the model came with
    passing: tuple[str, ...]  # notes that another model like it, or other probes, need not have
    state: EngineState

    @property
    def of_any_like_it(self) -> EngineState:
        """The state with the notes that hold for each model like it, on probes of such shapes."""
        notes = tuple(note for note in self.state.notes if note not in self.passing)
        return replace(self.state, notes=notes)


@dataclass(frozen=True)
class Planner:
    """Makes and proves states."""

    workload: Workload
    announce: Announce = unheard  # the stages of first, again and taken_over

    def first(
        self, model: nn.Module, threads: int, turns: int, earlier: Mapping[str, Any] | None
    ) -> Ready:
        """A state made and proven on a first model, which is taken over; see ``Engine.prepare``.

        ``turns`` models will be measured by it one after the other.

        Raises:
            CheckpointError: the model's losses or gradients are not finite.
            InputError: the model cannot be measured.
        """
        begun, reference = self._begun(model)
        replica, state = begun.replica, begun.state
        if earlier is not None:
            state = self._for_batches(state.with_choices_of(earlier))
        else:
            self.announce(CHOICES)
            state = self._with_choices(state, replica, threads, turns)
        self.announce(PROOF)
        truth = state.architecture.autograd(reference, self.workload.loss, state.plan.copies)
        return replace(
            begun, state=self.proven_on(state, truth, self.workload.rows(PROVEN_EXAMPLES))
        )

    def _begun(self, model: nn.Module) -> tuple[Ready, Replica]:
        """A model that can be measured by a state that is yet unproven, and a reference of it."""
        workload = self.workload
        pair, few = workload.some(2).inputs, workload.some(FIRST_EXAMPLES).inputs
        architecture, notes = Architecture.of(model, workload.settings)
        replica, architecture = architecture.replica(model, pair)
        notes += replica.notes
        saved = self._set_statistics(replica)
        self.announce(FIT)
        refuse_frequency_scaling(replica.model)
        fit = self._fitting(replica, FIRST_EXAMPLES)
        passing = (*workload.notes, *fit.notes, *sorted(replica.undone))
        notes += [*passing, *workload.statistics.notes(replica, few)]
        architecture, reference = architecture.with_reference(replica, workload.some(1).inputs)
        self.announce(CALIBRATION)
        calibration = calibrated(replica, few)
        inside = precision_inside(replica, calibration.recording)
        architecture = replace(architecture, inside=inside)
        if not calibration.steady or differ(fit.output[:1], fit.alone, inside):
            refuse_mixing(reference, few, architecture.inside_exact)
        memory, cost = Memory(architecture.device), self._cost(replica)
        state = EngineState(architecture, calibration.plan, memory, cost, notes=tuple(notes))
        state = state.with_plan(calibration.plan)
        return Ready(replica, saved, passing, state), reference

    def _fitting(self, replica: Replica, count: int) -> Fit:
        """What a model gives of some probes, which fits the loss and is finite.

        Nothing can be found out by value from a model that gives no finite numbers.

        Raises:
            CheckpointError: losses are not finite.
            InputError: the model cannot take the probes, or the loss its output.
        """
        workload, rows = self.workload, self.workload.rows(count)
        fit = check_fit(replica, workload.loader, rows, workload.loss)
        targets = workload.loader.take(rows).targets
        losses = losses_at_output(fit.output, targets, workload.loss)
        check_losses(losses, rows, workload.cells, replica, workload.loader.inputs)
        check_loss(workload.loss, fit.output, targets)
        return fit

    def taken_over(self, known: EngineState, model: nn.Module) -> Ready | None:
        """A model by a state that was made on another like it, or None where the plan changes.

        The model, which is taken over, is called for the first time, and the plan is proven on two
        probes. This shows as well that these are not mixed: alone they have the same losses.

        Raises:
            CheckpointError, InputError: as ``first``, with a message that may be wrong.

        Cost: a pass of the model and of its original, two over few probes for the fit, and a proof.
        """
        workload = self.workload
        replica, _ = known.architecture.replica(model, workload.some(PAIR).inputs)
        output = replica.compared_with_origin(workload.some(PAIR).inputs)
        names = {id(parameter): name for name, parameter in replica.parameters.items()}
        if parameters_of(output, names).keys() != known.plan.used:
            return None
        saved = self._set_statistics(replica)
        self.announce(FIT)
        fit = self._fitting(replica, PAIR)
        if known.shares > 1 and not self._isolated(replica, known.shares):
            return None
        self.announce(PROOF)
        passing = (*workload.notes, *fit.notes, *sorted(replica.undone))
        state = self.proven(known.noting(*passing), replica, workload.rows(PAIR))
        if state.numerical_choices != known.numerical_choices:
            return None
        return Ready(replica, saved, passing, state)

    def _cost(self, replica: Replica) -> PassCost:
        """The work of a pass over a probe, with what is opened while measuring in the open."""
        example = self.workload.some(1).inputs

        def forward() -> None:
            with CountedCalls():
                replica(example)

        return cost_of(forward, replica)

    def again(self, state: EngineState, model: nn.Module) -> EngineState:
        """The state proven on another model as well, which is taken over."""
        replica, state = self.replica(state, model)
        self._set_statistics(replica)
        self.announce(PROOF)
        return self.proven(state, replica, self.workload.rows(PROVEN_EXAMPLES))

    def _set_statistics(self, replica: Replica) -> Saved:
        """Give a replica the batch norm statistics that it is measured with; those it came with.

        Raises:
            InputError: the model cannot take the probes: this pass is the first that it makes.
        """
        if self.workload.statistics.passes_to_set(replica.model):
            self.announce(STATISTICS)
        with refused_if_failing(replica, lambda: self.workload.some(FIRST_EXAMPLES).inputs):
            return self.workload.statistics.set(replica)

    def replica(self, state: EngineState, model: nn.Module) -> tuple[Replica, EngineState]:
        """A replica of a further model, and the state with what the user should know of it."""
        replica, _ = state.architecture.replica(model, self.workload.some(2).inputs)
        return replica, state.noting(*replica.notes)

    def truth(self, state: EngineState, replica: Replica) -> Autograd:
        """Plain autograd of the replica's reference."""
        return state.architecture.truth(replica, self.workload.loss, state.plan.copies)

    def proven(self, state: EngineState, replica: Replica, rows: np.ndarray) -> EngineState:
        """The state with plan and proof brought up to date on some probes of a model."""
        return self.proven_on(state, self.truth(state, replica), rows)

    def proven_on(self, state: EngineState, truth: Autograd, rows: np.ndarray) -> EngineState:
        """The state with plan and proof brought up to date on some probes, by a reference."""
        if len(rows) == 1:  # torch's backward pass may be wrong for a batch of one
            rows = np.unique([rows[0], (rows[0] + 1) % len(self.workload.probes)])
        return self._proven_with(state, truth, self.workload.loader.take(rows))

    def _proven_with(self, state: EngineState, truth: Autograd, examples: Examples) -> EngineState:
        asked = [self.workload.directions_of_passes] if self.workload.directions else []
        plan, proof = prove(truth, examples, state.plan, state.proof, *asked)
        state = replace(state.with_plan(plan), proof=proof)
        return state.noting(BESIDE_ITSELF) if plan.copies > 1 else state

    def by_methods_that_work(
        self,
        state: EngineState,
        replica: Replica,
        work: Callable[[EngineState], Result],
        adding: bool = False,
    ) -> tuple[Result, EngineState]:
        """The result of some work, and the state by which it succeeded.

        Where the work fails, the state gets another pattern of calls, proven like the first; other
        methods; or less memory. ``adding`` says whether the work holds the cells' sums.
        """
        while True:
            try:
                return work(state), state
            except Exception as error:
                if not (isinstance(error, GIVING_WAY) or out_of_memory(error)):
                    raise
                failure = error
            let_go(failure, state.architecture.device)
            state = self._after(failure, state, replica, adding)

    def _after(
        self, failure: Exception, state: EngineState, replica: Replica, adding: bool
    ) -> EngineState:
        """The state with which work is tried again that failed."""
        if isinstance(failure, GIVING_WAY):
            plan, examples = replanned(replica, failure, state.plan)
            state = state.with_plan(plan)
            if examples is None:
                return state
            return self._proven_with(state, self.truth(state, replica), examples)
        cells = len(self.workload.cells)
        sums = cells * replica.values * state.architecture.dtype.itemsize
        memory, note = state.memory.lowered(Held(state.cost.kept, sums, cells, adding))
        return replace(state, memory=memory).noting(note)

    def _with_choices(
        self, state: EngineState, replica: Replica, threads: int, turns: int
    ) -> EngineState:
        """The state with shares, batch size and algorithms; only ``tune`` asks a clock."""
        state = self._shared(self._with_batch_size(state), replica, threads)
        state = self._for_batches(self._with_batch_size(state))
        with threads_of_a_batch(state):
            if self.workload.settings.tune:
                state = self._for_batches(self._tuned(state, replica, turns))
            return self._repeated(state, replica)

    def _for_batches(self, state: EngineState) -> EngineState:
        """The state that chooses algorithms for batches as they mostly are, whichever comes first.

        They have examples of so many cells as are in a batch on average.
        """
        examples, threads = len(self.workload.probes), torch.get_num_threads()
        size = min(state.memory.batch_size, examples)
        segments = 1 + size * (len(self.workload.cells) - 1) // examples
        shape = BatchShape(size, segments, 1 if state.shares > 1 else threads)
        return replace(state, plan=replace(state.plan, batch=shape))

    def _tuned(self, state: EngineState, replica: Replica, turns: int) -> EngineState:
        """The state with the algorithms and, if none is asked for, the batch size by the clock."""
        state = replace(state, tuned=True)
        budget = Budget(SHARE_OF_TUNING * turns * state.seconds(len(self.workload.probes)))
        of_calls = partial(time_algorithms, self.workload, replica, budget)
        _, state = self.by_methods_that_work(state, replica, of_calls)
        if self.workload.settings.batch_size != "auto":
            return state
        time_sizes = partial(fastest_size, self.workload, replica, budget)
        state = state.with_batch_size(largest_to_try(state, len(self.workload.probes)))
        size, state = self.by_methods_that_work(state, replica, time_sizes)
        return state.with_batch_size(size)

    def _with_batch_size(self, state: EngineState) -> EngineState:
        """The state with the batch size that is asked for, or the best for its shares."""
        size = self.workload.settings.batch_size
        if size == "auto":
            largest = largest_batch_size(state.architecture.device, state.cost.kept, state.shares)
            size = equal_batches(len(self.workload.probes), largest, state.shares)
        return state.with_batch_size(int(size))

    def _shared(self, state: EngineState, replica: Replica, threads: int) -> EngineState:
        """The state with as many shares as are worth it."""
        examples = len(self.workload.probes)
        shares = worthwhile_shares(examples, state.seconds(examples), threads)
        if shares == 1:
            return state
        if self._isolated(replica, shares):
            return replace(state, shares=shares)
        return state.noting(NOT_ISOLATED)

    def _isolated(self, replica: Replica, shares: int) -> bool:
        """Whether so many threads do not disturb each other's passes."""
        parts = np.array_split(self.workload.rows(DISTURBING * shares), shares)
        batches = [self.workload.loader.take(part).inputs for part in parts]
        return undisturbed(replicas(replica, shares), batches)

    def _repeated(self, state: EngineState, replica: Replica) -> EngineState:
        """The state that knows whether the same batch gives the same bits twice.

        Where kernels add in a fixed order two probes tell whether the model adds noise of its own.
        Where they add in the order in which they happen to be done, as on a GPU, it takes a whole
        batch. The first time algorithms are chosen, in the precision of the run, so that the proof
        uses those.
        """
        on_cpu = is_cpu(state.architecture.device)
        few = on_cpu and torch.are_deterministic_algorithms_enabled()

        def batch(state: EngineState) -> BatchResult:
            batches = self.workload.batches(state.memory, state.plan.copies)
            size = min(PAIR, state.memory.batch_size) if few else None
            return batches.measured(replica, state.plan, batches.first(replica, size))

        first, state = self.by_methods_that_work(state, replica, batch)
        _to_host(first.scaled_totals)  # else the second has less room than the first had
        second, after = self.by_methods_that_work(state, replica, batch)
        if after.numerical_choices != state.numerical_choices:  # they are of other batches
            return self._repeated(after, replica)
        _to_host(second.scaled_totals)
        if first.same_bits(second):
            return after
        note = NOT_REPEATABLE.format(device=state.architecture.device.type)
        return replace(after, repeatable=False).noting(note)


def _to_host(sums: dict[str, Tensor]) -> None:
    """Let the host hold the sums of a batch: as many values as the model has, or more."""
    for name, values in sums.items():
        sums[name] = values.cpu()


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
