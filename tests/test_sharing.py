"""The batches of one checkpoint, shared out among forks of this process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import analyze
from analyze.check import check
from analyze.errors import CheckpointError
from analyze.gradients import engine as engine_module
from analyze.gradients import estimate, probe_batches, sharing
from analyze.gradients.batch import MethodFailedError
from analyze.gradients.conditions import threads_restored
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.room import SharedRoom, shared
from analyze.gradients.sharing import in_forks_at_once, worthwhile_shares
from analyze.gradients.turns import Turns
from analyze.job import Options
from analyze.processes.division import Division
from analyze.processes.workers import Workers
from tests.cases import CASES
from tests.conftest import NAMES, TinyRun, small_probes
from tests.crash import assert_same_arrays
from tests.test_engine import assert_agrees
from tests.test_engine import measured as case_measured
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
def by(monkeypatch, tmp_path) -> Callable[[], list[int]]:
    """The process of each batch that was measured."""
    log, measure = tmp_path / "processes", probe_batches.measure_batch

    def logged(*arguments):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return measure(*arguments)

    monkeypatch.setattr(probe_batches, "measure_batch", logged)
    return lambda: [int(line) for line in log.read_text().split()] if log.exists() else []


def measured(**options):
    return analyze.measure(
        model(), small_probes(60), device="cpu", **({"folds": 2, "batch_size": 7} | options)
    )


def said(tree) -> dict:
    return json.loads(tree.attrs["provenance"])


# --- one model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shares_agree_with_one_example_at_a_time(case):
    tree, expected = case_measured(case, batch_size=3, device="cpu")
    assert said(tree)["shares"] == SHARES
    assert_agrees(tree, expected)


def test_batches_are_measured_by_forks(by):
    measured()
    forks = set(by()) - {os.getpid()}
    assert len(forks) == SHARES
    assert sum(by().count(fork) for fork in forks) == 9  # 60 examples, 7 at a time
    assert torch.get_num_threads() == SHARES
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("folds", [1, 2, 7])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("forks", [2, 5])
def test_forks_give_the_bits_of_one_process(folds, precision, forks):
    engine = shared_engine(folds=folds, precision=precision, batch_size=3)
    alone, engine.shares = prepared(engine, shares=1), forks
    engine.processes = forks
    with threads_restored():
        torch.set_num_threads(1)
        expected = alone.measure(model())
    assert_same_bits(engine.measure(model()), expected)


def test_each_fork_waits_for_the_batch_before(monkeypatch):
    """Whichever takes longer: sums are added in the order of the batches."""
    engine = shared_engine()
    expected = engine.measure(model())
    measure_batch = probe_batches.measure_batch

    def late(replica, inputs, targets, *others):
        time.sleep(0.05 * (float(inputs.tensors[""].sum()) > 0))
        return measure_batch(replica, inputs, targets, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", late)
    assert_same_bits(engine.measure(model()), expected)


def test_what_takes_less_time_than_forks_is_not_shared(monkeypatch, by):
    monkeypatch.undo()
    assert said(measured())["shares"] == 1
    assert multiprocessing.active_children() == []


def test_one_core_shares_nothing(by):
    torch.set_num_threads(1)
    assert said(measured())["shares"] == 1
    assert set(by()) == {os.getpid()}


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
    engine.processes = SHARES
    engine.prepare([model()])
    assert engine.shares == SHARES
    return engine


def prepared(engine: Engine, shares: int) -> Engine:
    """Another one with the same plan, for one process."""
    other = Engine(engine.probes, engine.loss, engine.settings)
    other.prepare([model()], engine.state() | {"shares": shares})
    return other


def assert_same_bits(found: Measurement, expected: Measurement) -> None:
    assert found.gram.tobytes() == expected.gram.tobytes()
    assert found.squared_norms.tobytes() == expected.squared_norms.tobytes()
    assert found.examples is not None
    assert expected.examples is not None
    assert found.examples.tobytes() == expected.examples.tobytes()
    assert found.loss.tobytes() == expected.loss.tobytes()


# --- whose turn it is


def test_totals_are_taken_in_the_order_of_the_batches():
    turns, taken = Turns(["first", "second"]), shared(16)

    def add(batch: int, tell) -> bool:
        time.sleep(0.05 * (3 - batch))

        def take(name: str, totals: torch.Tensor, scale: float) -> None:
            place = taken.rfind(b"x") + 1
            taken[place : place + 2] = bytes([48 + batch, ord("x")])

        in_order = turns.in_order(batch, take)
        if batch != 1:  # which has no gradient of any
            in_order("second", torch.zeros(1), 1.0)
            in_order("first", torch.zeros(1), 1.0)
        turns.end(batch)
        return True

    with Workers(3, add) as workers:
        assert all(done for _, done in workers.results(range(3), lambda told: None))
    assert taken[:8] == b"0x0x2x2x"


# --- what goes wrong


def is_first(path: Path) -> bool:
    """Whether no other process has asked before."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.mark.parametrize("deaths", [1, SHARES])
def test_what_forks_die_of_is_measured_here_to_the_bit(monkeypatch, tmp_path, by, deaths):
    engine = shared_engine()
    expected = engine.measure(model())
    here, measure_batch = os.getpid(), probe_batches.measure_batch
    before = by().count(here)

    def dies(*arguments):
        if os.getpid() != here and (deaths == SHARES or is_first(tmp_path / "first")):
            os.kill(os.getpid(), signal.SIGKILL)
        return measure_batch(*arguments)

    monkeypatch.setattr(probe_batches, "measure_batch", dies)
    found = engine.measure(model())
    assert by().count(here) - before == 9
    assert_same_bits(found, expected)
    assert multiprocessing.active_children() == []


def test_a_method_that_fails_in_a_fork_gives_way_to_the_next(monkeypatch):
    engine = shared_engine(precision="float64")
    expected, measure_batch = engine.measure(model()), probe_batches.measure_batch
    assert engine.plan is not None
    name = engine.plan.by_rule[0]

    def fails(replica, inputs, targets, loss, plan, *others):
        if name in plan.by_rule and len(inputs) == 7:
            raise MethodFailedError({name})
        return measure_batch(replica, inputs, targets, loss, plan, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", fails)
    found = engine.measure(model())
    assert name not in engine.plan.by_rule
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-12)


def test_a_fork_without_memory_halves_the_batch(monkeypatch):
    engine = shared_engine(precision="float64")
    expected, measure_batch = engine.measure(model()), probe_batches.measure_batch

    def limited(replica, inputs, *others):
        if len(inputs) > 4:
            raise MemoryError
        return measure_batch(replica, inputs, *others)

    monkeypatch.setattr(probe_batches, "measure_batch", limited)
    found = engine.measure(model())
    assert engine.batch_size == 3
    assert engine.notes == ["out of memory: batches of 3 from then on"]
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-12)


def test_losses_that_are_no_numbers_are_counted_over_all_shares():
    probes = small_probes(60)
    probes.inputs[""][[3, 47]] = 3e38  # clean and held out, in the first and the last share
    engine = Engine(probes, build_loss("cross_entropy"), Settings("cpu", batch_size=7, folds=1))
    engine.processes = SHARES
    engine.prepare([model()])
    with pytest.raises(CheckpointError) as caught:
        engine.measure(model())
    assert "2 such probes of 60: 1 of clean, 1 of held_out" in caught.value.found


def test_ctrl_c_ends_the_forks(monkeypatch):
    engine = shared_engine()

    def interrupted(examples: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.measure(model(), interrupted)
    assert multiprocessing.active_children() == []
    assert torch.get_num_threads() == SHARES


# --- memory that forks share


def test_this_process_sees_what_a_fork_writes():
    sizes = {"weight": (2, 4), "none": (0, 3), "scalar": ()}
    shapes = {name: torch.Size(size) for name, size in sizes.items()}
    room = SharedRoom(torch.float32, 3, shapes)

    def write(task: int, tell) -> bool:
        for number, name in enumerate(shapes):
            room.rows(name).fill_(1 + number)
            room.float64(name, room.rows(name)).fill_(5 + number)
            room.progress[number]["row"] = 7 + number
        return True

    with Workers(1, write) as workers:
        assert list(workers.results([0], lambda told: None)) == [(0, True)]
    for number, (name, shape) in enumerate(shapes.items()):
        assert room.rows(name).tolist() == [[1 + number] * shape.numel()] * 3
        assert room.float64(name, room.rows(name)).tolist() == [5 + number] * shape.numel()
    assert room.progress["row"].tolist() == [7, 8, 9]


def test_memory_that_is_not_there_is_told_as_such():
    with pytest.raises(MemoryError):
        SharedRoom(torch.float32, 1, {"weight": torch.Size([1 << 60])})


def test_forks_do_the_same_at_the_same_time_and_the_dead_give_nothing(tmp_path):
    def work() -> int:
        if is_first(tmp_path / "first"):
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    found = in_forks_at_once(work, 3)
    assert len(set(found)) == 2
    assert os.getpid() not in found


# --- a run


@pytest.fixture
def few(tiny) -> TinyRun:
    """Three checkpoints on two cores: not side by side."""
    return tiny


def test_a_run_of_few_checkpoints_shares_their_batches(few, by):
    result = few.run("--batch-size", "4")
    assert result.exit_code == 0, result.stderr
    forks = set(by()) - {os.getpid()}
    assert len(forks) == SHARES * len(NAMES)
    tree = analyze.open_results(few.output)
    assert said(tree)["shares"] == SHARES


@pytest.mark.parametrize(
    ("examples", "forward", "expected"),
    [(100, 0.011, 4), (100, 0.009, 1), (3, 1.0, 3)],  # seconds: 3.3, 2.7, 9
)
def test_shares_are_worth_it_from_some_seconds_on(examples, forward, expected, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_SHARING", 3.0)
    assert worthwhile_shares(examples, forward, processes=4) == expected


@pytest.mark.parametrize("cores", [1, SHARES])
def test_a_resumed_run_has_the_shares_and_bits_of_the_one_before(few, monkeypatch, by, cores):
    assert few.run("--batch-size", "4").exit_code == 0
    before = analyze.open_results(few.output)
    few.units[1].unlink()
    monkeypatch.setattr(sharing, "WORTH_SHARING", float("inf"))
    monkeypatch.setattr(
        engine_module, "divided", lambda *arguments: Division(1, SHARES, sharing=cores)
    )
    done = len(by())
    assert few.run("--batch-size", "4").exit_code == 0
    assert len(set(by()[done:]) - {os.getpid()}) == (SHARES if cores > 1 else 0)
    assert_same_arrays(before, analyze.open_results(few.output))


def test_nothing_is_read_ahead_beside_forks(few, monkeypatch):
    from analyze import measuring

    events, read, measure = [], measuring.load, Engine.measure

    def reading(job, checkpoint, sha256):
        events.append("read")
        return read(job, checkpoint, sha256)

    def measuring_one(self, *arguments):
        events.append("begun")
        done = measure(self, *arguments)
        events.append("done")
        return done

    monkeypatch.setattr(measuring, "load", reading)
    monkeypatch.setattr(Engine, "measure", measuring_one)
    assert few.run().exit_code == 0
    assert events == ["read", "begun", "done"] * len(NAMES)


def test_check_tells_of_shares_and_divides_the_time(few, monkeypatch):
    begun = 100.0  # seconds from before the forks to the end of their first batch
    a_batch = 30.0

    def timed(measure):
        return estimate._Timed(time.perf_counter() + begun, a_batch, {})

    monkeypatch.setattr(estimate, "_timed", timed)
    report = check(Path(few.path), Options()).report
    assert (report["workers"], report["threads"], report["shares"]) == (1, SHARES, SHARES)
    seconds = float(str(report["seconds"])) - float(str(report["preparation_seconds"]))
    turns = 24 / (int(str(report["batch_size"])) * SHARES)
    of_a_checkpoint = begun - a_batch + a_batch * turns
    assert seconds == pytest.approx(len(NAMES) * of_a_checkpoint, rel=0.02)
