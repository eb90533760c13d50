"""The engine: calibrate, refuse what mixes, prove, run.

One engine serves one probe set, loss and setting; ``prepare`` makes a proven plan from one or
more checkpoints, ``measure`` gives the sufficient statistics of one.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from analyze.errors import CheckpointError, InputError, listed
from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.calibrate.estimate import time_of_a_batch
from analyze.gradients.calibrate.learning import otherwise
from analyze.gradients.checks.choice import extremes, telling
from analyze.gradients.checks.fit import check_fit
from analyze.gradients.checks.non_finite import check_gradients, check_losses
from analyze.gradients.checks.precision import precision_inside
from analyze.gradients.checks.proof import Proof, inexact, prove
from analyze.gradients.checks.refusal import refuse_mixing
from analyze.gradients.checks.verdicts import verdicts
from analyze.gradients.checks.verification import AT_MOST, Found, Verification
from analyze.gradients.data.batches import Batch, Piece
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.device.devices import choose_batch_size, largest_batch_bytes, resolve_device
from analyze.gradients.device.memory import Memory, out_of_memory
from analyze.gradients.device.timing import Timing, fastest, seconds
from analyze.gradients.layers import selected_parameters
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.model.replica import Replica
from analyze.gradients.model.settling import Settled
from analyze.gradients.numbers.float64 import device_with_float64
from analyze.gradients.numbers.kinds import notes_on, precision_of
from analyze.gradients.plan import ONE_AT_A_TIME, VMAP, Plan, merged
from analyze.gradients.step.batch import BatchResult
from analyze.gradients.step.batch_norm import BatchNormStatistics
from analyze.gradients.step.conditions import measuring, threads_restored
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.forward import losses_of
from analyze.gradients.step.intercept import ForwardChangedError
from analyze.gradients.step.seeding import seeded
from analyze.gradients.sums.accumulation import Accumulation
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.gram_matrix import gram_matrices, seconds_of_gram
from analyze.gradients.sums.observation import Observation, watch
from analyze.gradients.threads.division import Division, divided
from analyze.gradients.threads.isolation import undisturbed
from analyze.gradients.threads.probe_batches import ProbeBatches
from analyze.gradients.threads.sharing import worthwhile_shares
from analyze.probes import Cells, ProbeSet

Result = TypeVar("Result")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROVEN_EXAMPLES = 4  # probes compared with plain autograd when a plan is proven
SHOWN = 4  # probes at a time on which parameters are proven that were zero before
SAMPLED = 8  # probes whose forward pass tells how long a measurement takes
REPLICAS = 8  # times the model is held, for the most part in float64 while it is proven
NOT_REPEATABLE = (
    "the same batch measured twice gives other bits on {device}: results agree within rounding, "
    "and a run that is resumed may differ in the last digits"
)
NOT_ISOLATED = (
    "this model draws random numbers, or keeps something outside of its modules, so that forward "
    "passes in threads disturb each other: one batch is measured at a time"
)
LOST = (
    "gradients of {names} are smaller than what {own} rounds, and count as zero: --precision "
    "float64 measures them"
)
WRONG = (
    "probe {probe}: {names} had another gradient than by plain autograd; all that is measured "
    "likewise is measured again in another way"
)
BESIDE_ITSELF = (
    "torch's backward pass is wrong for a batch of one here, by finite differences: the proof "
    "compares with each example beside itself"
)


def _unheard(examples: int) -> None:
    """Progress that nobody asked for."""


def _replicas(replica: Replica, threads: int) -> list[Replica]:
    """One for each thread."""
    return [replica, *(replica.for_another_thread() for _ in range(threads - 1))]


class Engine:
    """Measures models on one probe set.

    Args:
        probes: The probe set.
        loss: Of one example.
        settings: Device, precision, batch norm, batch size, folds.
    """

    def __init__(self, probes: ProbeSet, loss: Loss, settings: Settings) -> None:
        self.probes = probes
        self.loss = loss
        self.settings = settings
        self.cells = Cells.of(probes, settings.folds, settings.cells)
        self.dtype = DTYPES[settings.precision]
        self.device = resolve_device(settings.device, self.dtype)
        self.plan: Plan | None = None
        self.notes: list[str] = []  # what the user should know of how it was measured
        self.proof = Proof(notes=self.notes)
        self.memory = Memory(self.device, self.notes)
        self.repeatable = True
        self.threads = 1  # that may share the batches of a model
        self.shares = 1  # of a model's batches, each measured by one thread if several
        self.precision = self.dtype, torch.float64  # inside the model, and inside its reference
        self._reference_dtype: torch.dtype | None = None  # float64, where the models run in it
        self._selected: frozenset[str] | None = None
        self._settled: Settled | None = None  # what all models' passes need
        self._standing_out = extremes(probes.inputs)
        self._loader = ProbeLoader(probes)
        self._batches = ProbeBatches(self.cells, self._loader, loss, self.memory)
        self._statistics = BatchNormStatistics(probes, self._loader, loss, settings.batch_norm)

    @property
    def batch_size(self) -> int:
        """Examples at a time, as they are now."""
        return self.memory.batch_size

    def divide(self, model: nn.Module, checkpoints: int = 1, before: int | None = None) -> Division:
        """How the processor is divided for some checkpoints; the engine takes its part of it.

        Args:
            model: Of the architecture; how large it is decides how many processes there is room
                for.
            checkpoints: How many.
            before: Threads of each process when the run began, if it did.
        """
        values = sum(parameter.numel() for parameter in model.parameters())
        held = self.dtype.itemsize * values * (len(self.cells) + REPLICAS)
        needed = largest_batch_bytes(self.device) + held
        division = divided(checkpoints, self.device, needed, before)
        self.threads = division.sharing
        return division

    def prepare(self, models: Iterable[nn.Module], state: Mapping[str, Any] | None = None) -> None:
        """Make the plan on the first model and prove it on all of them.

        Args:
            models: Of one architecture, best the first, middle and last checkpoint of a run:
                what is zero at the start is proven later. Each is taken over.
            state: Of an earlier run, whose choices are proven again instead of made again:
                algorithms are chosen by timing, and another one rounds differently.

        Raises:
            CheckpointError: a model's losses or gradients are not finite; the engine is as before.
            InputError: the model cannot take the probes, mixes examples, is not deterministic, or
                has a parameter that no method measures exactly, or none of those selected.
        """
        with measuring(), self.memory.enough():
            for model in models:
                replica, planned = self._replica(model), self.plan is not None
                self._statistics.set(replica)
                if not planned:
                    self._make_plan(replica, state)
                try:
                    self._prove(replica, self._spread(PROVEN_EXAMPLES))
                except CheckpointError:
                    if not planned:
                        self.plan = None  # what was found out on this model is worth nothing
                    raise

    def _make_plan(self, replica: Replica, state: Mapping[str, Any] | None) -> None:
        self.notes += check_fit(replica, self._loader, self._spread(2), self.loss)
        self._check_losses(replica, self._spread(5))
        self.notes += [note for note in sorted(replica.undone) if note not in self.notes]
        self.notes += self._statistics.notes(replica, self._spread(5))
        reference = self._reference(replica)
        pair = self._loader.take(self._spread(2)).inputs
        self.precision = precision_inside(replica, pair), precision_inside(reference, pair)
        three = self._loader.take(self._spread(3))
        refuse_mixing(reference, *three, self.loss, self.precision[1])
        self.plan = calibrate(replica, self._loader.take(self._spread(5)).inputs, self.notes)
        if state is not None:
            self._adopt_plan(state)
            return
        self.shares = self._worthwhile_shares(replica)
        self.memory.batch_size = self._batch_size(replica)
        with self._threads_of_a_batch():
            self._choose_algorithms(replica)
            if self.settings.batch_size == "auto":
                self.memory.batch_size = self._by_methods_that_work(
                    replica, lambda: self._fastest_batch_size(replica)
                )

    def state(self) -> dict[str, Any]:
        """Plan and proof as plain values, from which ``adopt`` goes on to the same bits."""
        assert self.plan is not None, "prepare comes first"
        return {
            "requested_batch_size": self.settings.batch_size,
            "batch_size": self.batch_size,
            "host_sums": self.memory.host_sums,
            "shares": self.shares,
            "repeatable": self.repeatable,
            "notes": list(self.notes),
            "methods": dict(self.plan.methods),
            "algorithms": dict(self.plan.algorithms),
            "errors": dict(self.proof.errors),
            "rounding": sorted(self.proof.rounding),
            "levels": asdict(self.proof.levels),
            "dtype": self.proof.dtype,
            "examples": self.proof.examples,
        }

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Add what an earlier run of the same configuration knew when it had measured a checkpoint.

        In the order of the checkpoints that gives what that run ended with. Where one between them
        is measured anew, what it showed stays: a method that was demoted, a parameter that was
        proven, memory that was not enough.
        """
        assert self.plan is not None, "prepare comes first"
        self.plan = self._with_choices(merged(self.plan.methods, state["methods"]), state)
        errors = self.proof.errors
        errors |= {n: max(e, errors.get(n, 0.0)) for n, e in state["errors"].items()}
        self.proof.rounding |= set(state["rounding"])
        levels = state.get("levels", {})  # not told by older versions
        self.proof.levels.rounding |= levels.get("rounding", {})
        self.proof.levels.real |= levels.get("real", {})
        self.proof.dtype = state["dtype"]
        self.proof.examples = max(self.proof.examples, state["examples"])
        self.memory.adopt(state["batch_size"], state.get("host_sums", False))
        self.repeatable &= state.get("repeatable", True)  # not told by older versions
        self.notes += [note for note in state.get("notes", []) if note not in self.notes]

    def _adopt_plan(self, state: Mapping[str, Any]) -> None:
        """Take the choices of an earlier run in place of those that a fresh plan has."""
        self.plan = self._with_choices(dict(state["methods"]), state)
        self.shares = state.get("shares", 1)  # not told by older versions
        self.memory.adopt(state["batch_size"], state.get("host_sums", False))

    def _with_choices(self, methods: dict[str, str], state: Mapping[str, Any]) -> Plan:
        assert self.plan is not None
        algorithms = {**self.plan.algorithms, **state["algorithms"]}
        return replace(self.plan, methods=methods, algorithms=algorithms)

    def measure(self, model: nn.Module, progress: Callable[[int], None] = _unheard) -> Measurement:
        """The sufficient statistics of one model, which is taken over.

        Args:
            model: Of the architecture that was prepared.
            progress: Told how many examples each batch had.

        Raises:
            CheckpointError: a loss or gradient is not finite, or the model mixes examples.
            InputError: a parameter's numbers are found otherwise by every method.

        Cost: one forward and backward pass over the probes and what the rules add, one forward
        pass for the batch norm statistics; a few hundred probes more to see whether those lag;
        about one probe of 32 once more, and 1.5 % of the time, at least two probes, for plain
        autograd.
        """
        assert self.plan is not None, "prepare comes first"
        with measuring(), self.memory.enough():
            replica = self._replica(model)
            other = self._statistics.set_after_losses_under_others(replica, self.batch_size)
            measured = self._verified(replica, progress)
        return self._statistics.with_both_losses(measured, other)

    def timing(self, model: nn.Module) -> Timing:
        """An estimate of what ``measure`` takes, from a few batches and one forward pass."""
        assert self.plan is not None
        with measuring():
            replica = self._replica(model)
            self._statistics.set(replica)
            batch, replicas = self._batches.first(replica), self._one_for_each_thread(replica)
            with self._threads_of_a_batch():
                a_batch = time_of_a_batch(
                    [partial(self._batches.measured, own, self.plan, batch) for own in replicas]
                )
            forward = self._seconds_of_forward(replica, batch.rows)
            gram = seconds_of_gram(len(self.cells), replica.values, self.dtype, self.device)
        turns = len(self.probes) / (len(batch.rows) * len(replicas))
        passes = self._statistics.passes(replica.model)
        whole = a_batch.begun + a_batch.taken * turns + forward * passes + gram
        return Timing(whole, gram, a_batch.methods)

    def accumulate(
        self, replica: Replica, progress: Callable[[int], None] = _unheard
    ) -> Measurement:
        """Every cell's gradient sum and squared norms, then the Gram matrix of the sums.

        Without a proof, and with the statistics of batch norm that the replica has: ``measure``
        is what sees to both.

        Args:
            replica: Of a model of the architecture that was prepared.
            progress: Told how many examples each batch had.

        Raises:
            CheckpointError: a loss or gradient is not finite.
            ForwardChangedError, MethodFailedError: the plan does not hold for this model.

        Cost: one forward and backward pass over the probes and what the rules add; ``C*C`` products
        of C cells for each parameter's value.
        """
        return self._observed(replica, progress).measurement

    def _observed(self, replica: Replica, progress: Callable[[int], None]) -> _Observed:
        """What ``accumulate`` gives, with what it saw of single probes, and how long it took."""
        assert self.plan is not None, "prepare comes first"
        began = time.perf_counter()
        names = [n for n in self.plan.order if n in replica.parameters]
        adding = self._added_up(replica, names, progress)
        found = adding.found
        check_losses(
            found.loss, np.arange(len(self.probes)), self.cells, replica, self._loader.inputs
        )
        check_gradients(dict(zip(names, found.bad, strict=True)), self.cells, replica)
        cells = len(self.cells)
        products = gram_matrices(adding.sums, self.device)
        never_used = np.full((cells, cells), np.nan)
        gram = np.array([products.get(name, never_used) for name in names])
        squared = np.where(found.reached[:, None], found.squared_norms, np.nan)
        measured = Measurement(
            tuple(names), gram, squared, found.loss, found.accuracy, found.examples
        )
        return _Observed(measured, adding.seen, time.perf_counter() - began)

    def _added_up(
        self, replica: Replica, names: list[str], progress: Callable[[int], None]
    ) -> Accumulation:
        """All batches."""
        assert self.plan is not None
        shapes = {name: replica.parameters[name].shape for name in names}
        place = torch.device("cpu") if self.memory.host_sums else device_with_float64(self.device)
        sums = CellSums(shapes, len(self.cells), self.dtype, place, self.device)
        watched = watch(self._batches.of_all(replica), AT_MOST, _draws(replica))
        seen = Observation(names, watched)
        adding = Accumulation(len(self.probes), self.settings.examples, sums, seen)
        replicas = self._one_for_each_thread(replica)
        with self._threads_of_a_batch():
            self._batches.add_up(replicas, self.plan, adding, progress)
        return adding

    def _verified(self, replica: Replica, progress: Callable[[int], None]) -> Measurement:
        """A measurement whose numbers are found again otherwise; by the next method where not.

        After any fallback the plan is proven again: the numbers must be by a plan that is.
        """
        while True:
            proven = self._way()
            observed = self._by_methods_that_work(
                replica, lambda: self._observed(replica, progress)
            )
            worked = self._way()
            if worked != proven:
                self._prove(replica, np.sort(observed.seen.watched.alone[:SHOWN]))
            if self._way() != worked:
                continue
            found = self._by_methods_that_work(replica, partial(self._checked, replica, observed))
            if found is not None and self._way() == worked:
                return found

    def _checked(self, replica: Replica, observed: _Observed) -> Measurement | None:
        """The measurement with what verifies it; None where a method was found to be wrong.

        Raises:
            CheckpointError: the model mixes examples.
            InputError: no method is left.
        """
        assert self.plan is not None
        seen, reference = observed.seen, self._reference(replica)
        judged = verdicts(
            seen, replica, reference, self._loader, self.loss, self.precision, self.proof.levels
        )
        self._prove_what_appeared(reference, seen, judged.rounding)
        verification = Verification(
            replica, reference, self.plan, self._loader, self.loss, self.probes.id, self.precision,
            self.batch_size,
        )  # fmt: skip
        again = partial(self._as_one_batch, replica, seen)
        found = verification.check(seen, again, observed.seconds)
        if found.wrong:
            self._go_on_after(replica, found)
            return None
        self.proof.rounding |= judged.rounding
        if judged.lost:
            self.notes.append(
                LOST.format(names=listed(sorted(judged.lost)), own=self.settings.precision)
            )
        return replace(
            observed.measurement, rounding=tuple(sorted(judged.rounding)), verified=found.verified
        )

    def _prove_what_appeared(
        self, reference: Replica, seen: Observation, rounding: frozenset[str]
    ) -> None:
        """Prove parameters that had no gradient before on the probes that show most of them."""
        assert self.plan is not None
        strongest = dict(zip(seen.names, seen.strongest.tolist(), strict=True))
        left = {n for n in self.proof.unproven(self.plan) - rounding if strongest.get(n, -1) >= 0}
        while left:
            rows = np.unique([strongest[name] for name in left])[:SHOWN]
            self._prove_on(reference, rows)
            tried = {name for name in left if strongest[name] in rows}
            left = left - tried - self.proof.errors.keys()

    def _as_one_batch(
        self, replica: Replica, seen: Observation, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Losses ``[K]`` and squared norms ``[P, K]`` of some probes."""
        assert self.plan is not None
        found = self._batches.measured(replica, self.plan, Batch((Piece(0, rows),))).of_examples()
        norms = np.zeros((len(seen.names), len(rows)))
        norms[[seen.names.index(name) for name in found.names]] = found.squared_norms
        return found.losses, norms

    def _go_on_after(self, replica: Replica, found: Found) -> None:
        """With another way for what was wrong, and for all that is measured likewise; proven.

        Rows that were taken for other examples' are traced first; then the next method is left.

        Raises:
            InputError: no method is left.
        """
        assert self.plan is not None
        probe, methods = self.probes.id[found.example], self.plan.methods
        if any(methods[name] == ONE_AT_A_TIME for name in found.wrong):
            raise inexact(sorted(found.wrong), f", as for probe {probe}")
        rules = set(self.plan.by_rule)
        rows = {name for name in rules & found.wrong if not self.plan.is_traced(name)}
        self.notes.append(WRONG.format(probe=probe, names=listed(sorted(found.wrong), 4)))
        if rows:
            self.plan = self.plan.traced(rules)
        else:
            likewise = rules if rules & found.wrong else set()
            likewise |= {name for name in methods if methods[name] == VMAP and name in found.wrong}
            self.plan = self.plan.demoted(likewise)
        self._prove(replica, self._spread(PROVEN_EXAMPLES))

    def _one_for_each_thread(self, replica: Replica) -> list[Replica]:
        """Of those that share its batches."""
        return _replicas(replica, min(self.threads, self.shares))

    def _batch(self, replica: Replica, size: int) -> BatchResult:
        """A first batch of so many examples."""
        assert self.plan is not None
        return self._batches.measured(replica, self.plan, self._batches.first(replica, size))

    def _seconds_of_forward(self, replica: Replica, rows: np.ndarray) -> float:
        """Of one example, over some probes."""
        inputs = self._loader.take(rows).inputs
        with torch.no_grad():
            return seconds(lambda: replica(inputs)) / len(inputs)

    def _check_losses(self, replica: Replica, rows: np.ndarray) -> None:
        """Nothing can be found out by value from a model that gives no finite numbers."""
        losses = losses_of(replica, self._loader.take(rows), self.loss)
        check_losses(losses, rows, self.cells, replica, self._loader.inputs)

    def _prove(self, replica: Replica, rows: np.ndarray) -> None:
        """Bring plan and proof up to date on some probes of one model."""
        self._prove_on(self._reference(replica), rows)

    def _prove_on(self, reference: Replica, rows: np.ndarray) -> None:
        assert self.plan is not None
        if len(rows) == 1:  # for which a backward pass may be wrong
            rows = np.unique([rows[0], (rows[0] + 1) % len(self.probes)])
        self._prove_with(reference, self._loader.take(rows))

    def _prove_with(self, reference: Replica, examples: Examples) -> None:
        assert self.plan is not None
        self.plan = prove(reference, *examples, self.loss, self.plan, self.proof, self.precision[1])
        self._batches.smallest = self.plan.copies
        if self.plan.copies > 1 and BESIDE_ITSELF not in self.notes:
            self.notes.append(BESIDE_ITSELF)

    def _replica(self, model: nn.Module) -> Replica:
        if self._selected is None:
            self._selected = selected_parameters(
                model, self.settings.layers, self.settings.parameters
            )
            self.notes += notes_on(model, self.dtype)
            self.dtype = precision_of(model, self.dtype)
            self.device = resolve_device(self.settings.device, self.dtype)
        replica = Replica(model, self.device, self.dtype, self._selected)
        self._settled = replica.settle(self._loader.take(self._spread(2)).inputs, self._settled)
        self.notes += [note for note in replica.notes if note not in self.notes]
        return replica

    def _reference(self, replica: Replica) -> Replica:
        """The replica in float64 where the model runs in it, both ways, else a copy as it is.

        Which one is found out on the first model: the others have its architecture.
        """
        if self._reference_dtype is not None:
            return replica.as_dtype(self._reference_dtype)
        self._reference_dtype = torch.float64
        exact = replica.as_dtype(torch.float64)
        try:
            exact.check_own_weights(self._loader.take(self._spread(2)).inputs)
            output = exact(self._loader.take(self._spread(1)).inputs)
            if output.requires_grad:
                seeded(output, torch.ones_like(output)).backward()
        except InputError:
            raise
        except Exception:  # float32 alone, for torch or for the model
            self._reference_dtype = self.dtype
            return replica.as_dtype(self.dtype)
        for parameter in exact.parameters.values():
            parameter.grad = None
        return exact

    def _batch_size(self, replica: Replica) -> int:
        size = self.settings.batch_size
        if size != "auto":
            return int(size)
        return choose_batch_size(replica, self._loader.take(self._spread(1)).inputs, self.shares)

    def _worthwhile_shares(self, replica: Replica) -> int:
        """In how many shares to measure."""
        if self.threads == 1:
            return 1
        forward = self._seconds_of_forward(replica, self._spread(SAMPLED))
        shares = worthwhile_shares(len(self.probes), forward, self.threads)
        if shares == 1:
            return 1
        parts = np.array_split(self._spread(max(SAMPLED, shares)), shares)
        batches = [self._loader.take(part).inputs for part in parts]
        if undisturbed(_replicas(replica, shares), batches):
            return shares
        self.notes.append(NOT_ISOLATED)
        return 1

    @contextmanager
    def _threads_of_a_batch(self) -> Iterator[None]:
        """As many as a batch is measured with."""
        with threads_restored():
            if self.shares > 1:
                torch.set_num_threads(1)
            yield

    def _choose_algorithms(self, replica: Replica) -> None:
        """Time the algorithms on a batch, so that the proof uses what the run will.

        On the smallest of the batches whose size is to be found by timing, if it is: which one is
        the fastest hardly depends on it. The batch is then measured once more: only where the same
        bits come out can a run be repeated to the bit.
        """
        size = min(self._sizes()) if self.settings.batch_size == "auto" else self.batch_size

        def batch() -> BatchResult:
            return self._batch(replica, min(size, self.batch_size))

        first, second = (self._by_methods_that_work(replica, batch) for _ in range(2))
        self.repeatable = first.same_bits(second)
        if not self.repeatable:
            self.notes.append(NOT_REPEATABLE.format(device=self.device.type))

    def _fastest_batch_size(self, replica: Replica) -> int:
        """The largest that fits, or a part of it, by timing: on a CPU the caches decide."""
        sizes = self._sizes()
        ways = {size: partial(self._batch, replica, size) for size in sizes}
        return fastest(ways, done={size: size for size in sizes}, rounds=2)

    def _sizes(self) -> list[int]:
        """Batch sizes of which the fastest is taken, the largest that fits last."""
        most = min(self.batch_size, len(self.probes) // self.shares)
        return sorted({max(1, most // part) for part in (1, 2, 4)})

    def _way(self) -> tuple[object, ...]:
        """What a fallback changes."""
        assert self.plan is not None
        methods, patterns = dict(self.plan.methods), len(self.plan.patterns)
        return methods, patterns, self.memory.batch_size, self.memory.host_sums

    def _by_methods_that_work(self, replica: Replica, work: Callable[[], Result]) -> Result:
        """Do some work; again with other methods, or in less memory, where that fails."""
        assert self.plan is not None
        while True:
            try:
                return work()
            except (ForwardChangedError, MethodFailedError) as failure:
                self._go_on(replica, failure)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self.memory.lower(len(self.cells), replica.values)

    def _go_on(self, replica: Replica, failure: MethodFailedError | ForwardChangedError) -> None:
        """With a further pattern of calls, proven like the first, or by other methods."""
        assert self.plan is not None
        self.plan, examples = otherwise(replica, failure, self.plan, self.notes)
        if examples is not None:
            self._prove_with(self._reference(replica), Examples(*examples))

    def _spread(self, count: int) -> np.ndarray:
        """Rows of a few probes, spread over the file and so over the subsets, and some extremes."""
        return telling(self._standing_out, len(self.probes), count)


@dataclass(frozen=True)
class _Observed:
    """A measurement that is still to be verified.

    Args:
        measurement: The numbers.
        seen: What was seen of single probes.
        seconds: That it took.
    """

    measurement: Measurement
    seen: Observation
    seconds: float


def _draws(replica: Replica) -> np.random.Generator:
    """Other draws at every checkpoint, the same when the run is repeated."""
    sums = [float(p.detach().abs().sum()) for p in replica.parameters.values()]
    return np.random.default_rng(zlib.crc32(np.array(sums, dtype=np.float32).tobytes()))
