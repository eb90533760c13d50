"""Measures one model by a state, and verifies its numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import torch
from torch import nn

from analyze.errors import listed
from analyze.gradients.calibrate.estimate import seconds_of_forward, time_of_a_batch
from analyze.gradients.checks.alignment import AlignmentCheck, check_sums
from analyze.gradients.checks.along import trial_passes
from analyze.gradients.checks.noise import refuse_noise
from analyze.gradients.checks.non_finite import check_gradients, check_losses
from analyze.gradients.checks.proving import inexact
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.checks.verdicts import verdicts
from analyze.gradients.checks.verification import (
    AT_LEAST,
    AT_MOST,
    ExpectedSeconds,
    Verification,
    Verifier,
)
from analyze.gradients.data.batches import Batch, CellRows
from analyze.gradients.data.share import WHOLE, Share
from analyze.gradients.device.devices import HOST, device_with_float64
from analyze.gradients.device.timing import Timing
from analyze.gradients.measurement import Measurement
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import as_real
from analyze.gradients.plan import ONE_AT_A_TIME, VMAP
from analyze.gradients.planner import PROVEN_EXAMPLES, Planner, replicas, threads_of_a_batch
from analyze.gradients.ranks.team import Team
from analyze.gradients.ranks.together import (
    added_up_together,
    exchanged_together,
    set_together,
)
from analyze.gradients.state import EngineState
from analyze.gradients.step.along import Along
from analyze.gradients.step.batch_norm import Saved
from analyze.gradients.sums.accumulation import Accumulation
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.directions import (
    Alignments,
    SecondPass,
    Vectors,
    Weights,
    known_before,
    sums_of_cells,
    together,
)
from analyze.gradients.sums.gram_matrices import gram_matrices, seconds_of_gram
from analyze.gradients.sums.observation import Observation, watch
from analyze.gradients.threads.isolation import random_states
from analyze.gradients.threads.probe_batches import Adding
from analyze.gradients.workload import Workload

OnBatch = Callable[[int], None]  # called with the number of examples of each batch
SHOWN = 4  # probes at a time on which parameters are proven that were zero before
LOST = (
    "gradients of {names} are smaller than what {precision} rounds, and count as zero: --precision "
    "float64 measures them"
)
WRONG = (
    "probe {probe}: {names} had another gradient than by plain autograd; all that is measured "
    "likewise is measured again in another way"
)


@dataclass(frozen=True)
class Observed:
    """A measurement that is still to be verified."""

    measurement: Measurement
    seen: Observation  # what single probes showed
    drew: bool  # whether a pass over the batches drew random numbers, on any rank
    vectors: Mapping[int, Vectors]  # the directions that there are, by number


@dataclass(frozen=True)
class Measurer:
    """Measures models; ``planner`` makes another state where one does not work."""

    workload: Workload
    planner: Planner
    threads: int = 1  # how many may share the batches of a model
    weights: Weights = field(default_factory=Weights)  # for directions that follow from them
    team: Team | None = None  # the ranks that divide a model's batches, if several do

    def measure(
        self, state: EngineState, model: nn.Module, progress: OnBatch
    ) -> tuple[Measurement, EngineState]:
        """The sufficient statistics of a model, and the state by which they were measured.

        Raises:
            CheckpointError: a loss or gradient is not finite, or the model mixes examples.
            InputError: no method measures a parameter as plain autograd does.
        """
        replica, state = self.planner.replica(state, model)
        statistics = self.workload.statistics
        if self.team is None:
            saved = statistics.set(replica)
        else:
            saved = set_together(self.team, statistics, replica)
        return self.measured(state, replica, saved, progress)

    def measured(
        self, state: EngineState, replica: Replica, saved: Saved, progress: OnBatch
    ) -> tuple[Measurement, EngineState]:
        """As ``measure``, of a replica whose statistics were ``set``, which gave ``saved``."""
        statistics = self.workload.statistics
        others = statistics.losses_under_others(replica, saved, state.memory.batch_size)
        measurement, state = self._verified(state, replica, progress)
        return statistics.with_both_losses(measurement, others), state

    def timing(self, state: EngineState, model: nn.Module) -> Timing:
        """An estimate of what ``measure`` takes, from a few batches and one forward pass."""
        workload, device, dtype = self.workload, state.architecture.device, state.architecture.dtype
        replica, state = self.planner.replica(state, model)
        workload.statistics.set(replica)
        batches = workload.batches(state.memory, state.plan.copies)
        batch = batches.first(replica)
        each_thread = replicas(replica, min(self.threads, state.shares))
        along = trial_passes(replica, workload.directions_of_passes)
        with threads_of_a_batch(state):
            a_batch = time_of_a_batch(
                [partial(batches.time, copy, state.plan, batch, along) for copy in each_thread],
                device,
            )
        forward = seconds_of_forward(replica, workload.loader.take(batch.rows).inputs)
        gram = seconds_of_gram(len(workload.cells), replica.values, dtype, device)
        turns = len(workload.probes) / (len(batch.rows) * len(each_thread))
        passes = workload.statistics.passes(replica.model)
        whole = a_batch.begun + a_batch.taken * turns + forward * passes + gram
        return Timing(whole, gram, a_batch.methods)

    def observed(self, replica: Replica, progress: OnBatch, state: EngineState) -> Observed:
        """Every cell's gradient sum and squared norms, and the Gram matrix of the sums, unverified.

        Raises:
            CheckpointError: a loss or gradient is not finite.
            ForwardChangedError, MethodFailedError: the plan does not hold for this model.

        Cost: one forward and backward pass over the probes and what the rules add; ``C*C`` products
        of C cells for each parameter's value. A second pass where directions are sums of gradients.
        """
        workload, device = self.workload, state.architecture.device
        known = known_before(workload.directions, replica, self.weights)
        batches = workload.batches(state.memory, state.plan.copies).of_all(replica)
        own = partial(self.added_up, state, replica, progress, batches, known)
        if self.team is None:
            adding = own(WHOLE)
        else:
            adding, parts = added_up_together(self.team, state, batches, own)
        rows = np.arange(len(workload.probes))
        check_losses(adding.loss, rows, workload.cells, replica, workload.loader.inputs)
        bad = dict(zip(adding.sums.shapes, adding.bad, strict=True))
        check_gradients(bad, workload.cells, replica)
        vectors = sums_of_cells(workload.directions, adding.sums, replica)
        if vectors and adding.alignments is not None:
            second = SecondPass(adding.alignments, vectors)
            self._add_up(state, replica, progress, second, batches, together(vectors, alone=True))
        if self.team is None:
            products = gram_matrices(adding.sums, device)
        else:
            products = exchanged_together(self.team, adding, parts, device)
        return Observed(adding.measurement(products), adding.seen, adding.drew, known | vectors)

    def added_up(
        self,
        state: EngineState,
        replica: Replica,
        progress: OnBatch,
        batches: Sequence[Batch],
        known: Mapping[int, Vectors],
        share: Share,
    ) -> Accumulation:
        """What the batches of a rank add up to, of all ``batches`` in their order.

        ``known`` are directions that they are measured along.

        Raises:
            ForwardChangedError, MethodFailedError: the plan does not hold for this model.
        """
        own = share.of(batches, [len(batch.rows) for batch in batches])
        held = range(len(self.workload.cells))  # also those without examples, at either end
        if share != WHOLE:
            held = range(own[0].cells[0], own[-1].cells[-1] + 1) if own else range(0)
        adding = self._accumulation(state, replica, batches, held, known)
        before = random_states()
        along = together(known, alone=False) if known else None
        self._add_up(state, replica, progress, adding, own, along)
        adding.drew = random_states() != before
        return adding

    def _add_up(
        self,
        state: EngineState,
        replica: Replica,
        progress: OnBatch,
        adding: Adding,
        batches: Sequence[Batch],
        along: Along | None,
    ) -> None:
        """Measure some batches by as many threads as share them."""
        each_thread = replicas(replica, min(self.threads, state.shares))
        with threads_of_a_batch(state):
            all_batches = self.workload.batches(state.memory, state.plan.copies)
            all_batches.add_up(each_thread, state.plan, adding, batches, progress, along)

    def _accumulation(
        self,
        state: EngineState,
        replica: Replica,
        batches: Sequence[Batch],
        held: range,
        known: Mapping[int, Vectors],
    ) -> Accumulation:
        """Sums with nothing added yet, and room for what is ``known`` of the directions."""
        workload, device = self.workload, state.architecture.device
        names = [name for name in state.plan.order if name in replica.parameters]
        shapes = {name: replica.parameters[name].shape for name in names}
        place = HOST if state.memory.host_sums else device_with_float64(device)
        sums = CellSums(shapes, len(held), state.architecture.dtype, place, device)
        seen = Observation(names, watch(batches, AT_MOST, _draws(replica)))
        total, cells, keep = len(workload.probes), len(workload.cells), workload.settings.examples
        along = None
        if workload.directions:
            along = Alignments(len(workload.directions), names, total)
            along.begin(known)
        return Accumulation(total, cells, held, keep, sums, seen, along, known)

    def _verified(
        self, state: EngineState, replica: Replica, progress: OnBatch
    ) -> tuple[Measurement, EngineState]:
        """A measurement that passed verification, by the next method where one did not.

        Where random numbers were drawn meanwhile, it is made twice, and must be the same. After
        any fallback the plan is proven again: the numbers must be by a plan that is proven.
        """
        observe = partial(self.observed, replica, progress)
        while True:
            before = random_states()
            observed, worked = self.planner.by_methods_that_work(state, replica, observe, True)
            if observed.drew or random_states() != before:
                # Once more, then, by other random numbers.
                again = self.observed(replica, lambda _: None, worked).measurement
                ids = self.workload.probes.id
                refuse_noise(observed.measurement, again, ids, repeatable=worked.repeatable)
            proven = worked
            if worked.numerical_choices != state.numerical_choices:
                few = np.sort(observed.seen.watched.alone[:SHOWN])
                proven = self.planner.proven(worked, replica, few)
            if proven.numerical_choices == worked.numerical_choices:
                check = partial(self._checked, replica, observed)
                (measurement, proven), _ = self.planner.by_methods_that_work(proven, replica, check)
                if measurement is not None and proven.numerical_choices == worked.numerical_choices:
                    return measurement, proven
            state = proven

    def _checked(
        self, replica: Replica, observed: Observed, state: EngineState
    ) -> tuple[Measurement | None, EngineState]:
        """The measurement with its verification; None where a method proved wrong.

        Raises:
            CheckpointError: the model mixes examples.
            InputError: no method is left.
        """
        workload, seen, before = self.workload, observed.seen, state
        truth = cache(partial(self.planner.truth, state, replica))  # another copy of the model
        inside, copies = state.architecture.inside, state.plan.copies
        measured = Autograd(replica, workload.loss, inside, copies)
        judged = verdicts(seen, measured, truth, workload.loader, state.proof.levels)
        state = replace(state, proof=replace(state.proof, levels=judged.levels))
        state = self._with_what_appeared_proven(state, truth, seen, judged.rounding)
        measured = replace(measured, copies=state.plan.copies)
        verifier = Verifier(
            measured, truth, workload.loader, workload.probes.id, state.memory.batch_size
        )
        again = partial(self._as_one_batch, state, replica, seen)
        verification = verifier.check(seen, again, self._expected(state))
        as_measured = state.numerical_choices == before.numerical_choices
        if workload.directions and as_measured and not verification.wrong:
            verification = self._with_alignments(verification, observed, measured, judged.rounding)
        if verification.wrong:
            return None, self._after(state, replica, verification)
        state = replace(state, proof=state.proof.adding({}, judged.rounding))
        if judged.lost:
            names = listed(sorted(judged.lost))
            state = state.noting(LOST.format(names=names, precision=workload.settings.precision))
        rounding = tuple(sorted(judged.rounding))
        verified = verification.verified
        return replace(observed.measurement, rounding=rounding, verified=verified), state

    def _with_alignments(
        self,
        verification: Verification,
        observed: Observed,
        autograd: Autograd,
        rounding: frozenset[str],
    ) -> Verification:
        """The verification with that of the alignments.

        Raises:
            CheckpointError: they do not add up to the Gram matrices.
        """
        workload, measured = self.workload, observed.measurement
        check_sums(measured, workload.directions, workload.cells, autograd.precision, rounding)
        check = AlignmentCheck(autograd, workload.loader, measured, observed.vectors)
        watched = observed.seen.watched
        wrong, row = check.wrong(watched.alone[:AT_LEAST], watched.company)
        return replace(verification, wrong=frozenset(wrong), example=row)

    def _expected(self, state: EngineState) -> ExpectedSeconds:
        """What the measurement of a model takes, and one probe alone."""
        by_one_thread = state.seconds(len(self.workload.probes))
        return ExpectedSeconds(by_one_thread / state.shares, state.seconds_alone)

    def _with_what_appeared_proven(
        self,
        state: EngineState,
        truth: Callable[[], Autograd],
        seen: Observation,
        rounding: frozenset[str],
    ) -> EngineState:
        """Prove parameters that had no gradient before on the probes that show most of them."""
        strongest = dict(zip(seen.names, seen.strongest.tolist(), strict=True))
        unproven = state.proof.unproven(state.plan) - rounding
        left = {name for name in unproven if strongest.get(name, -1) >= 0}
        while left:
            rows = np.unique([strongest[name] for name in left])[:SHOWN]
            state = self.planner.proven_on(state, truth(), rows)
            tried = {name for name in left if strongest[name] in rows}
            left = left - tried - state.proof.errors.keys()
        return state

    def _as_one_batch(
        self, state: EngineState, replica: Replica, seen: Observation, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Losses ``[K]`` and squared norms ``[P, K]`` of K probes measured as one batch."""
        batches = self.workload.batches(state.memory, state.plan.copies)
        batch = Batch((CellRows(0, rows),))
        result = batches.measured(replica, state.plan, batch)
        norms = np.zeros((len(seen.names), len(rows)))
        norms[[seen.names.index(name) for name in result.names]] = result.squared_norms
        return result.losses, norms

    def _after(
        self, state: EngineState, replica: Replica, verification: Verification
    ) -> EngineState:
        """The state with another method for what was wrong and all measured likewise, proven.

        Where rows were not traced, they are traced first; then the next method is left.

        Raises:
            InputError: no method is left.
        """
        wrong, plan = verification.wrong, state.plan
        probe, methods = self.workload.probes.id[verification.example], plan.methods
        if any(methods[name] == ONE_AT_A_TIME for name in wrong):
            raise inexact(wrong, f", as for probe {probe}")
        rules = set(plan.by_rule)
        if any(not methods[name].traced for name in rules & wrong):
            plan = plan.traced(rules)
        else:
            likewise = rules if rules & wrong else set()
            plan = plan.demoted(likewise | {name for name in wrong if methods[name] == VMAP})
        state = replace(state, plan=plan)
        state = state.noting(WRONG.format(probe=probe, names=listed(sorted(wrong), 4)))
        return self.planner.proven(state, replica, self.workload.rows(PROVEN_EXAMPLES))


def _draws(replica: Replica) -> np.random.Generator:
    """A generator seeded by a value of each weight: other draws at every checkpoint, repeatable."""
    first = [as_real(p.detach()).reshape(-1)[:1].float() for p in replica.parameters.values()]
    return np.random.default_rng(zlib.crc32(torch.cat(first).cpu().numpy().tobytes()))
