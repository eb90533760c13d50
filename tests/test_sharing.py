"""The batches of one checkpoint, shared out among threads."""

from __future__ import annotations

import gc
import inspect
import json
import random
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.errors import CheckpointError
from analyze.gradients import engine as engine_module
from analyze.gradients.calibrate import estimate
from analyze.gradients.calibrate.estimate import BatchTime
from analyze.gradients.device import devices
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.threads import probe_batches, sharing
from analyze.gradients.threads.division import Division
from analyze.gradients.threads.isolation import undisturbed
from analyze.gradients.threads.order import BatchOrder
from analyze.gradients.threads.sharing import at_once, worthwhile_shares
from analyze.gradients.workload import Workload
from analyze.probes import ProbeSet
from analyze.runs.check import check
from tests.agreement import assert_agrees
from tests.agreement import measured as case_measured
from tests.cases import CASES
from tests.conftest import NAMES, TinyRun, small_probes
from tests.crash import assert_same_arrays
from tests.nightly import of_every_run, variants
from tests.test_memory import model

SHARES = 2


@pytest.fixture(autouse=True)
def two_cores(monkeypatch) -> Iterator[None]:
    """Two threads, and everything is worth sharing."""
    monkeypatch.setattr(sharing, "WORTH_SHARING", 0.0)
    with threads_restored():
        torch.set_num_threads(SHARES)
        yield


@pytest.fixture
def by(monkeypatch) -> list[int]:
    """The thread of each batch that was added up; not of those by which numbers are verified."""
    log, measure = [], probe_batches.measure_batch
    signature = inspect.signature(measure)

    def logged(*arguments):
        if signature.bind(*arguments).arguments["take"] is not None:
            log.append(threading.get_ident())
            time.sleep(0.02)  # long enough for the other threads to take batches
        return measure(*arguments)

    monkeypatch.setattr(probe_batches, "measure_batch", logged)
    return log


def measured(**options):
    return analyze.measure(
        model(), small_probes(60), device="cpu", **({"folds": 2, "batch_size": 7} | options)
    )


def said(tree) -> dict:
    return json.loads(tree.attrs["provenance"])


# --- one model


@pytest.mark.parametrize("case", variants(CASES, lambda case: case.rules))
def test_shares_agree_with_one_example_at_a_time(case):
    tree, expected = case_measured(case, batch_size=3, device="cpu")
    assert said(tree)["shares"] == SHARES
    assert_agrees(tree, expected)


def test_batches_are_measured_by_threads_that_end(by):
    before = threading.active_count()
    measured()
    assert len(set(by)) == SHARES
    assert len(by) == 9  # 60 examples, 7 at a time
    assert torch.get_num_threads() == SHARES
    assert threading.active_count() == before


@pytest.mark.parametrize("folds", [1, 2, 7])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("count", [2, 5])
def test_threads_give_the_bits_of_one(folds, precision, count):
    engine = shared_engine(folds=folds, precision=precision, batch_size=3)
    engine.threads = count
    engine._state = replace(engine.current, shares=count)
    alone = prepared(engine)
    assert alone.threads == 1
    assert_same_bits(engine.measure(model()), alone.measure(model()))


def test_each_thread_waits_for_the_batch_before(monkeypatch):
    """Whichever takes longer: sums are added in the order of the batches."""
    engine = shared_engine()
    expected = engine.measure(model())
    measure_batch = probe_batches.measure_batch

    def late(replica, inputs, targets, *others):
        time.sleep(0.05 * (float(inputs.tensors[""].sum()) > 0))
        return measure_batch(replica, inputs, targets, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", late)
    assert_same_bits(engine.measure(model()), expected)


def test_what_takes_little_time_is_not_shared(monkeypatch):
    monkeypatch.undo()
    assert said(measured())["shares"] == 1


def test_one_core_shares_nothing(by):
    torch.set_num_threads(1)
    assert said(measured())["shares"] == 1
    assert set(by) == {threading.get_ident()}


def test_there_are_no_more_shares_than_probes():
    torch.set_num_threads(4)
    tree = analyze.measure(model(), small_probes(3), device="cpu", batch_norm="saved", folds=1)
    assert said(tree)["shares"] == 3
    assert said(tree)["batch_size"] == 1


def test_progress_is_told_of_every_example():
    told = []
    shared_engine().measure(model(), told.append)
    assert sum(told) == 60
    assert max(told) == 7


def shared_engine(**settings) -> Engine:
    options = Settings("cpu", **({"batch_size": 7, "folds": 2} | settings))
    engine = Engine(small_probes(60), build_loss("cross_entropy"), options)
    engine.threads = SHARES
    engine.prepare([model()])
    assert engine.current.shares == SHARES
    return engine


def prepared(engine: Engine) -> Engine:
    """Another one with the same plan, whose batches one thread measures, itself on one core.

    The Gram matrix is computed by as many threads as there: MKL's bits depend on their number.
    """
    other = Engine(engine.probes, engine.loss, engine.settings)
    other.prepare([model()], engine.state())
    return other


def assert_same_bits(found: Measurement, expected: Measurement) -> None:
    assert found.gram.tobytes() == expected.gram.tobytes()
    assert found.squared_norms.tobytes() == expected.squared_norms.tobytes()
    assert found.examples is not None
    assert expected.examples is not None
    assert found.examples.tobytes() == expected.examples.tobytes()
    assert found.loss.tobytes() == expected.loss.tobytes()


# --- the order of the batches

NO_GRADIENT, SCALE = torch.zeros(1), 1.0


def test_totals_are_taken_in_the_order_of_the_batches():
    order, taken = BatchOrder(["first", "second"], [0.2, 0.0, 0.1, 0.0]), []

    def work() -> None:
        for batch, delay in order.next_ones():
            take = order.taking(
                batch, lambda name, *totals, batch=batch: taken.append((name, batch))
            )
            time.sleep(delay)
            if batch != 1:  # which has no gradient of any
                take("second", NO_GRADIENT, SCALE)
                take("first", NO_GRADIENT, SCALE)
            order.summed(batch)
            order.finish(batch, partial(taken.append, ("rest", batch)))

    at_once([work] * 3)
    for name, batches in {"first": [0, 2, 3], "second": [0, 2, 3], "rest": [0, 1, 2, 3]}.items():
        assert [batch for taken_name, batch in taken if taken_name == name] == batches
    assert list(order.next_ones()) == []


def test_a_batch_that_is_far_ahead_waits_at_what_the_one_before_has_no_gradient_of():
    order, taken, waits = BatchOrder(["last", "first"], range(2)), [], threading.Event()
    (early, _), (late, _) = (next(order.next_ones()) for _ in range(2))
    take = {batch: order.taking(batch, lambda name, *_: taken.append(name)) for batch in (0, 1)}
    take[early]("last", NO_GRADIENT, SCALE)

    def work() -> None:
        take[late]("last", NO_GRADIENT, SCALE)
        waits.set()
        take[late]("first", NO_GRADIENT, SCALE)
        order.finish(late, partial(taken.append, "rest of 1"))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert waits.wait(10)
    order.finish(early, partial(taken.append, "rest of 0"))
    order.summed(early)
    thread.join(10)
    assert taken == ["last", "last", "rest of 0", "first", "rest of 1"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda order, take: order.finish(1, take),
        lambda order, take: order.taking(1, take)("weight", NO_GRADIENT, SCALE),
    ],
    ids=["finish", "taking"],
)
def test_nobody_waits_once_all_are_stopped(wait):
    order, taken = BatchOrder(["weight"], range(4)), []
    assert next(order.next_ones()) == (0, 0)
    waiting = threading.Thread(
        target=lambda: wait(order, lambda *totals: taken.append(totals)), daemon=True
    )
    waiting.start()
    time.sleep(0.1)
    assert waiting.is_alive()
    order.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    assert taken == []
    assert list(order.next_ones()) == []


@pytest.mark.parametrize(("threads", "examples"), [(1, 64), (2, 32), (4, 16), (64, 16)])
def test_threads_together_hold_what_one_batch_may(threads, examples):
    assert devices.largest_batch_size(torch.device("cpu"), 8 << 20, threads) == examples


# --- models whose forward passes are no islands


class Seeded(nn.Linear):
    """Sets the seed of the random numbers that it draws."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return super().forward(x + 0.1 * torch.rand(x.shape[1:]))


class Keeping(nn.Linear):
    """Keeps what it got on its class, and takes that."""

    def forward(self, x: Tensor) -> Tensor:
        Keeping.kept = x
        time.sleep(1e-3)
        return super().forward(Keeping.kept)


class Drawing(nn.Linear):
    """Draws numbers for a look-up that does not change anything."""

    def forward(self, x: Tensor) -> Tensor:
        random.random()
        np.random.random()
        return super().forward(x)


class Counting(nn.Linear):
    """Cannot bear that another pass is on its way."""

    inside = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.inside += 1
        try:
            time.sleep(1e-3)
            if Counting.inside > 1:
                raise RuntimeError("twice at a time")
            return super().forward(x)
        finally:
            Counting.inside -= 1


@pytest.mark.parametrize("layer", [Seeded, Keeping, Drawing, Counting])
def test_batches_of_a_model_that_is_no_island_are_not_shared(layer):
    def alike() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), layer(12, 10))

    probes = ProbeSet(
        torch.randn(60, 12, generator=torch.Generator().manual_seed(0)).numpy(),
        np.arange(60) % 10,
    )
    tree = analyze.measure(alike(), probes, device="cpu", batch_size=7, folds=2)
    assert said(tree)["shares"] == 1
    assert any("forward passes in threads" in warning for warning in said(tree)["warnings"])


def test_finding_that_out_leaves_random_numbers_as_they_were():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    replicas = [Replica(model(), torch.device("cpu"), torch.float32)]
    assert undisturbed(replicas, [Inputs({"": torch.ones(2, 12)})])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_replica_for_another_thread_shares_parameters_and_nothing_else():
    first = Replica(model(), torch.device("cpu"), torch.float32)
    other = first.for_another_thread()
    assert list(other.parameters) == list(first.parameters)
    for name, parameter in first.parameters.items():
        assert other.parameters[name] is not parameter
        assert other.parameters[name].data_ptr() == parameter.data_ptr()
    assert not {id(m) for m in first.model.modules()} & {id(m) for m in other.model.modules()}
    buffers = dict(first.model.named_buffers())
    for name, buffer in other.model.named_buffers():
        assert buffer.data_ptr() != buffers[name].data_ptr() or not buffer.numel()


# --- what goes wrong


def test_a_method_that_fails_in_a_thread_gives_way_to_the_next(monkeypatch):
    engine = shared_engine(precision="float64")
    expected, measure_batch = engine.measure(model()), probe_batches.measure_batch
    name = engine.plan.by_rule[0]

    def fails(replica, inputs, targets, loss, plan, *others):
        if name in plan.by_rule and len(inputs) == 7:
            raise MethodFailedError({name})
        return measure_batch(replica, inputs, targets, loss, plan, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", fails)
    found = engine.measure(model())
    assert name not in engine.plan.by_rule
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-12)


def test_a_thread_without_memory_halves_the_batch(monkeypatch):
    engine = shared_engine(precision="float64")
    expected, measure_batch = engine.measure(model()), probe_batches.measure_batch

    def limited(replica, inputs, *others):
        if len(inputs) > 4:
            raise MemoryError
        return measure_batch(replica, inputs, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", limited)
    found = engine.measure(model())
    assert engine.batch_size == 3
    assert found.notes == ("out of memory: batches of 3 from then on",)
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-12)


def test_losses_that_are_no_numbers_are_counted_over_all_shares(monkeypatch):
    monkeypatch.setattr(Workload, "rows", lambda self, count: np.arange(5, 5 + count))
    probes = small_probes(60)
    probes.inputs[""][[3, 47]] = 3e38  # clean and held out, in the first and the last share
    engine = Engine(probes, build_loss("cross_entropy"), Settings("cpu", batch_size=7, folds=1))
    engine.threads = SHARES
    engine.prepare([model()])
    with pytest.raises(CheckpointError) as caught:
        engine.measure(model())
    assert "2 such probes of 60: 1 of clean, 1 of held_out" in caught.value.found


def test_ctrl_c_ends_the_threads(monkeypatch):
    engine, before = shared_engine(), threading.active_count()

    def interrupted(examples: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.measure(model(), interrupted)
    assert threading.active_count() == before
    assert torch.get_num_threads() == SHARES


def test_what_a_batch_raises_keeps_no_batch_alive(monkeypatch):
    """Nothing waits for the garbage collector: the memory is wanted for a smaller batch."""
    kept = []

    def fails() -> None:
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        raise MemoryError

    gc.disable()
    try:
        with pytest.raises(MemoryError):
            at_once([fails, fails])
        alive = [reference() for reference in kept]
    finally:
        gc.enable()
    assert alive == [None] * len(kept)
    assert kept


# --- a run


@pytest.fixture
def few(tiny) -> TinyRun:
    """Three checkpoints on two cores: not side by side."""
    return tiny


def test_a_run_of_few_checkpoints_shares_their_batches(few, by):
    result = few.run("--batch-size", "4")
    assert result.exit_code == 0, result.stderr
    assert len(by) == len(NAMES) * 6  # 24 probes
    assert len(set(by)) > 1
    tree = analyze.open_results(few.output)
    assert said(tree)["shares"] == SHARES


DRAWING = """
import random, threading, time
import numpy as np
import torch
from analyze.models.builtin import SmallMLP

def model():
    torch.set_default_dtype(torch.float64)  # until the end of this function
    torch.manual_seed(7), random.seed(7), np.random.seed(7)
    torch.rand(3), random.random(), np.random.random()
    time.sleep(0.1)  # a measurement beside this would find what was set and drawn here
    torch.set_default_dtype(torch.float32)
    with open("threads.txt", "a") as file:
        print(threading.current_thread() is threading.main_thread(), file=file)
    return SmallMLP(in_features=12, width=5, num_classes=3)
"""


@pytest.mark.parametrize("options", [(), ("--directions", "update")], ids=["plain", "update"])
def test_no_model_is_built_beside_a_measurement(few, by, monkeypatch, options):
    monkeypatch.chdir(few.path.parent)
    Path("drawing.py").write_text(DRAWING, encoding="utf-8")
    result = few.run("--model", "drawing.py:model", "--batch-size", "4", *options)
    assert result.exit_code == 0, result.stderr
    assert set(Path("threads.txt").read_text(encoding="utf-8").split()) == {"True"}
    assert len(by) == len(NAMES) * 6  # nothing was measured again for random numbers of others


@pytest.mark.parametrize(
    ("examples", "seconds", "expected"), [(100, 3.1, 4), (100, 2.9, 1), (3, 9.0, 3)]
)
def test_shares_are_worth_it_from_some_seconds_on(examples, seconds, expected, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_SHARING", 3.0)
    assert worthwhile_shares(examples, seconds, threads=4) == expected


@pytest.mark.parametrize("cores", of_every_run([1, SHARES], {"1"}))
def test_a_resumed_run_has_the_shares_and_bits_of_the_one_before(few, monkeypatch, by, cores):
    assert few.run("--batch-size", "4").exit_code == 0
    before = analyze.open_results(few.output)
    few.units[1].unlink()
    monkeypatch.setattr(sharing, "WORTH_SHARING", float("inf"))
    monkeypatch.setattr(
        engine_module, "divided", lambda *arguments: Division(1, SHARES, sharing=cores)
    )
    done = len(by)
    assert few.run("--batch-size", "4").exit_code == 0
    assert (len(set(by[done:])) > 1) == (cores > 1)
    assert_same_arrays(before, analyze.open_results(few.output))


def test_check_tells_of_shares_and_divides_the_time(few, monkeypatch):
    begun, a_batch = 70.0, 30.0  # seconds

    def timed(measure, device):
        return BatchTime(begun, a_batch, {})

    monkeypatch.setattr(estimate, "_timed", timed)
    report = check(few.path).report
    assert (report["workers"], report["threads"], report["shares"]) == (1, SHARES, SHARES)
    seconds = float(str(report["seconds"])) - float(str(report["preparation_seconds"]))
    turns = 24 / (int(str(report["batch_size"])) * SHARES)
    of_a_checkpoint = begun + a_batch * turns
    assert seconds == pytest.approx(len(NAMES) * of_a_checkpoint, rel=0.02)
