"""Workers: tasks shared out among forks of this process, and runs divided among them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import analyze
from analyze.checkpoints.finding import watch
from analyze.errors import CheckpointError
from analyze.gradients import engine as engine_module
from analyze.gradients.device.timing import Timing
from analyze.gradients.engine import Engine
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.threads import division
from analyze.gradients.threads.division import Division, divided
from analyze.runs import measuring
from analyze.runs.check import check
from analyze.runs.units.lock import locked
from analyze.runs.workers import Workers
from tests.conftest import TinyRun, small_weights
from tests.crash import assert_same_arrays
from tests.nightly import of_every_run

CPU = torch.device("cpu")
CHECKPOINTS = 6
PATIENCE = 20  # seconds until something that must happen has happened


# --- tasks


@contextmanager
def threads(count: int) -> Iterator[None]:
    with threads_restored():
        torch.set_num_threads(count)
        yield


def ignored(content: object) -> None: ...


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_every_task_is_done_once_each_worker_on_one_thread():
    def work(task: int, tell) -> tuple[int, int, int]:
        time.sleep(0.02)
        return task**2, os.getpid(), torch.get_num_threads()

    with threads(2), Workers(2, work) as workers:
        results = dict(workers.results(range(8), ignored))
    assert {task: result[0] for task, result in results.items()} == {k: k**2 for k in range(8)}
    processes = {result[1] for result in results.values()}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {result[2] for result in results.values()} == {1}


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="another allocator")
def test_a_worker_leaves_the_gaps_in_its_parents_memory_alone():
    """A page of the parent's that it wrote to would be there twice."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(1000) for _ in range(2000)]
    gaps = set(blocks[::2])
    for block in gaps:
        libc.free(block)

    def asks_for_as_many(task: int, tell) -> list[int]:
        return [libc.malloc(1000) for _ in gaps]

    with Workers(1, asks_for_as_many) as workers:
        ((_, found),) = workers.results([0], ignored)
    for block in blocks[1::2]:
        libc.free(block)
    assert len(set(found)) == len(gaps)
    assert not gaps & set(found)


def test_a_backward_pass_in_a_worker_after_one_here_on_two_threads():
    def gradient(task: int, tell=ignored) -> list[float]:
        x = torch.arange(1.0, 400.0, requires_grad=True)
        (outer,) = torch.autograd.grad((x[:, None] * x[None] * task).sin().sum(), [x])
        return outer.tolist()

    with threads(2):
        expected = gradient(3)
        with Workers(1, gradient) as workers:
            ((_, found),) = workers.results([3], ignored)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-2)


def test_what_workers_tell_arrives_before_their_results():
    def work(task: int, tell) -> int:
        tell(task)
        return -task

    told = []
    with Workers(2, work) as workers:
        for task, result in workers.results([1, 2, 3], told.append):
            assert task in told
            assert result == -task
    assert sorted(told) == [1, 2, 3]


def test_a_task_is_asked_for_when_a_worker_is_free():
    asked = []

    def tasks() -> Iterator[int]:
        for task in range(6):
            asked.append(task)
            yield task

    with Workers(2, lambda task, tell: task) as workers:
        for done, _ in enumerate(workers.results(tasks(), ignored), start=1):
            assert len(asked) <= done + 2


def test_a_task_that_raises_has_no_result_and_its_worker_goes_on():
    def work(task: int, tell) -> int:
        return 6 // task

    with Workers(1, work) as workers:
        assert dict(workers.results([0, 2, 3], ignored)) == {0: None, 2: 3, 3: 2}


def test_the_task_of_a_worker_that_dies_has_no_result_and_others_go_on():
    def work(task: int, tell) -> int:
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    with Workers(2, work) as workers:
        found = dict(workers.results(range(6), ignored))
    assert found == {0: 0, 1: None, 2: 2, 3: 3, 4: 4, 5: 5}


def test_when_all_workers_are_dead_no_task_has_a_result():
    with Workers(2, lambda task, tell: os._exit(0)) as workers:
        assert dict(workers.results(range(5), ignored)) == dict.fromkeys(range(5))


def test_leaving_the_block_ends_workers_in_the_middle_of_a_task():
    def work(task: int, tell) -> None:
        tell(os.getpid())
        time.sleep(600)

    processes = []

    class Enough(Exception): ...

    def told(process: int) -> None:
        processes.append(process)
        if len(processes) == 2:
            raise Enough

    with pytest.raises(Enough), Workers(2, work) as workers:
        list(workers.results([1, 2], told))
    assert len(processes) == 2
    assert not any(map(alive, processes))


def test_workers_end_with_a_process_that_is_killed():
    ours, theirs = multiprocessing.Pipe()

    def parent() -> None:
        def work(task: int, tell) -> None:
            theirs.send(os.getpid())
            time.sleep(600)

        with Workers(3, work) as workers:
            list(workers.results(range(3), ignored))

    process = multiprocessing.get_context("fork").Process(target=parent)
    process.start()
    workers = [ours.recv() for _ in range(3)]
    assert all(map(alive, workers))
    process.kill()
    process.join()
    until = time.monotonic() + PATIENCE
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, workers))


def test_ctrl_c_is_left_to_the_parent():
    def work(task: int, tell) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return task

    with Workers(1, work) as workers:
        assert list(workers.results([7], ignored)) == [(7, 7)]


def test_a_worker_does_not_hold_the_lock(tmp_path):
    def work(task: int, tell) -> None:
        with locked(tmp_path / "lock") as supported:
            tell(supported)

    told = []
    with Workers(1, work) as workers:
        with locked(tmp_path / "lock"):
            pass  # held and let go by the parent; the worker was born before
        list(workers.results([1], told.append))
    assert told == [True]
    with locked(tmp_path / "lock"), Workers(1, lambda task, tell: task) as workers:
        assert list(workers.results([7], ignored)) == [(7, 7)]  # it has let go of it by now
        holders = [
            p for p in Path("/proc").glob("[0-9]*")
            if p.name != str(os.getpid()) and str(tmp_path / "lock") in open_files(p)
        ]  # fmt: skip
    assert holders == []


def open_files(process: Path) -> list[str]:
    try:
        return [str(link.readlink()) for link in (process / "fd").iterdir()]
    except OSError:  # it has ended
        return []


@pytest.mark.parametrize("kind", [CheckpointError, analyze.InputError])
def test_an_error_comes_through_the_pipe_whole(kind):
    error = kind("what", found="this", expected="that", fix="type\nthis")
    with Workers(1, lambda task, tell: error) as workers:
        ((_, found),) = workers.results([1], ignored)
    assert type(found) is kind
    assert str(found) == str(error)


# --- how a run is divided


@pytest.mark.parametrize(
    ("cores", "checkpoints", "expected"),
    [
        (1, 12, Division(1, 1)),
        (2, 1, Division(1, 2, sharing=2)),
        (2, 2, Division(2, 1)),
        (2, 3, Division(1, 2, sharing=2)),  # the third would be measured on one of two cores
        (2, 12, Division(2, 1)),
        (8, 6, Division(6, 1)),
        (8, 12, Division(8, 1)),
        (64, 3, Division(1, 64, sharing=64)),
        (64, 100, Division(64, 1)),
    ],
)
def test_checkpoints_side_by_side_where_that_is_faster(monkeypatch, cores, checkpoints, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert divided(checkpoints, CPU, needed=1) == expected


def test_no_more_workers_than_half_of_the_memory_holds(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(division, "_memory", lambda: 1000)
    assert divided(80, CPU, needed=100) == Division(5, 1)
    assert divided(80, CPU, needed=300) == Division(1, 8)
    assert divided(1, CPU, needed=100) == Division(1, 8, sharing=5)


def test_the_memory_of_a_container_counts(monkeypatch, tmp_path):
    whole = division._memory()
    assert whole > 1 << 28
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(division, "CONTAINER_LIMIT", limit)
    for text, expected in {"max\n": whole, "4096\n": 4096}.items():
        limit.write_text(text)
        assert division._memory() == expected


def test_no_workers_on_a_device_or_beside_one(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert divided(12, torch.device("cuda"), needed=1) == Division(1, 2)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert divided(12, CPU, needed=1) == Division(1, 2, sharing=2)


def test_no_workers_where_forks_are_not_safe(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("sys.platform", "darwin")
    assert divided(12, CPU, needed=1) == Division(1, 2, sharing=2)


def test_no_processes_beside_one_of_a_pool_which_is_allowed_none(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(divided, (12, CPU, 1)) == Division(1, 2, sharing=2)
    assert divided(12, CPU, 1) == Division(2, 1)


@pytest.mark.parametrize(
    ("cores", "before", "expected"),
    [
        (2, 1, Division(2, 1)),
        (2, 2, Division(1, 2, sharing=2)),  # begun with three checkpoints, say
        (1, 2, Division(1, 1)),
        (4, 2, Division(1, 2, sharing=4)),
    ],
)
def test_a_run_goes_on_with_the_threads_that_it_began_with(monkeypatch, cores, before, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert divided(12, CPU, needed=1, before=before) == expected


# --- runs


@pytest.fixture
def series(tiny) -> Iterator[TinyRun]:
    """The tiny run with more checkpoints, on two threads: it has two workers."""
    for seed in range(3, CHECKPOINTS):
        torch.save(small_weights(seed), tiny.path / f"step_{1000 + seed}.pt")
    with threads(2):
        yield tiny


@pytest.fixture
def measured_by(monkeypatch, tmp_path) -> Path:
    """A file that gets the process of each measurement, a line each."""
    log, measure = tmp_path / "processes", Engine.measure

    def logged(self, *arguments):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return measure(self, *arguments)

    monkeypatch.setattr(Engine, "measure", logged)
    return log


def test_workers_give_the_bits_of_one_process(series, measured_by, monkeypatch):
    result = series.run()
    assert result.exit_code == 0, result.stderr
    assert torch.get_num_threads() == 2
    processes = measured_by.read_text().split()
    assert len(processes) == CHECKPOINTS
    assert len(set(processes)) == 2
    assert str(os.getpid()) not in processes
    assert result.stderr.count(f"/{CHECKPOINTS}] ") == CHECKPOINTS
    workers = analyze.open_results(series.output)
    for unit in series.units:  # the plan stays
        unit.unlink()
    monkeypatch.setattr(engine_module, "divided", lambda *arguments: Division(1, 1))
    assert series.run().exit_code == 0
    assert measured_by.read_text().split()[CHECKPOINTS:] == [str(os.getpid())] * CHECKPOINTS
    assert_same_arrays(workers, analyze.open_results(series.output))


def test_only_what_is_missing_is_measured_again_by_workers(series, measured_by):
    assert series.run().exit_code == 0
    before = analyze.open_results(series.output)
    for unit in series.units[:2]:
        unit.unlink()
    assert series.run().exit_code == 0
    assert len(measured_by.read_text().split()) == CHECKPOINTS + 2
    assert_same_arrays(before, analyze.open_results(series.output))


def test_what_is_at_fault_in_a_checkpoint_skips_it_in_a_worker_too(series):
    weights = small_weights(9)
    next(iter(weights.values()))[0, 0] = float("nan")
    torch.save(weights, series.path / "step_1004.pt")
    result = series.run()
    assert result.exit_code == 4, result.stderr
    assert "Skipped step_1004.pt: " in result.stderr
    assert len(series.units) == CHECKPOINTS - 1
    status = analyze.open_results(series.output)["status"].values
    assert [str(s)[:2] for s in status].count("ok") == CHECKPOINTS - 1


def test_the_first_fault_in_a_worker_stops_a_run_that_is_to_fail(series):
    weights = small_weights(9)
    next(iter(weights.values()))[0, 0] = float("nan")
    torch.save(weights, series.path / "step_1004.pt")
    result = series.run("--on-error", "fail")
    assert result.exit_code == 3, result.stderr
    assert not series.output.exists()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("deaths", of_every_run([1, CHECKPOINTS], {"1"}))
def test_a_checkpoint_whose_worker_dies_is_measured_without(
    series, measured_by, monkeypatch, deaths
):
    here, read, killers = os.getpid(), measuring._snapshot, series.path.parent / "killers"
    assert series.run().exit_code == 0
    before = analyze.open_results(series.output)
    for unit in series.units:
        unit.unlink()
    measured_by.unlink()

    def dies(*arguments):
        if os.getpid() != here and (not killers.exists() or deaths > 1):
            killers.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(*arguments)

    monkeypatch.setattr(measuring, "_snapshot", dies)
    result = series.run()
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("measured again without workers") == deaths
    assert measured_by.read_text().split().count(str(here)) == deaths
    assert_same_arrays(before, analyze.open_results(series.output))


def test_what_is_no_fault_of_a_checkpoint_is_told_by_this_process(series, monkeypatch):
    def fails(self, *arguments):
        raise analyze.InputError("no room", found="this", expected="that", fix="type this")

    monkeypatch.setattr(Engine, "measure", fails)
    result = series.run()
    assert result.exit_code == 3
    assert "no room" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_the_workers_and_keeps_the_units(series, monkeypatch):
    here, keep = os.getpid(), measuring.Workers.results

    def interrupted(self, *arguments):
        for count, result in enumerate(keep(self, *arguments)):
            if count == 2:
                raise KeyboardInterrupt
            yield result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring.Workers, "results", interrupted)
        result = series.run()
    assert result.exit_code == 130
    assert "Stopped: 2 units are kept" in result.stderr
    assert os.getpid() == here
    assert multiprocessing.active_children() == []
    assert series.run().exit_code == 0
    assert len(series.units) == CHECKPOINTS


def test_what_a_worker_notes_is_told_and_stands_in_the_results(series, monkeypatch):
    measure = Engine.measure

    def noting(self, *arguments):
        measured = measure(self, *arguments)
        known = any("something" in note for note in self.notes)
        return measured if known else replace(measured, notes=("something to know",))

    monkeypatch.setattr(Engine, "measure", noting)
    result = series.run()
    assert result.exit_code == 0
    noted = analyze.open_results(series.output).attrs["provenance"].count("something to know")
    assert noted in (1, 2)  # two workers may meet it at the same time
    told = [line for line in result.stderr.splitlines() if "something to know" in line]
    assert len(set(told)) == noted
    assert len(told) == 2 * noted  # when it happens, and at the end


def test_a_training_that_is_followed_has_no_workers(series, measured_by, monkeypatch):
    monkeypatch.setattr(watch, "sleep", lambda seconds: None)
    result = series.run("--follow", "--patience", "0.001")
    assert result.exit_code == 0, result.stderr
    assert set(measured_by.read_text().split()) == {str(os.getpid())}


def test_check_times_a_checkpoint_in_every_worker_at_once(series, monkeypatch, tmp_path):
    timed = tmp_path / "timed"

    def timing(engine: Engine, model: torch.nn.Module) -> Timing:
        with timed.open("a") as file:
            file.write(f"{os.getpid()}\n")
        engine.plan.algorithms["some call"] = "direct"
        return Timing(checkpoint=7.0, gram=1.0, share={})

    monkeypatch.setattr(Engine, "timing", timing)
    report = check(series.path).report
    processes = set(timed.read_text().split())
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    turns = CHECKPOINTS // 2
    assert report["seconds"] - report["preparation_seconds"] == pytest.approx(7.0 * turns)
    assert report["gram_seconds"] == turns
    assert report["algorithms"]["some call"] == "direct"


def test_check_times_alone_where_workers_fail(series, monkeypatch):
    here, measured = os.getpid(), Engine.timing

    def timing(engine: Engine, model: torch.nn.Module) -> Timing:
        if os.getpid() != here:
            raise MemoryError
        return measured(engine, model)

    monkeypatch.setattr(Engine, "timing", timing)
    report = check(series.path).report
    assert report["seconds"] > report["preparation_seconds"] > 0


def test_check_counts_the_turns_of_workers(series):
    report = check(series.path).report
    assert (report["workers"], report["threads"]) == (2, 1)
    torch.set_num_threads(1)
    alone = check(series.path).report
    assert (alone["workers"], alone["threads"]) == (1, 1)
    assert torch.get_num_threads() == 1
