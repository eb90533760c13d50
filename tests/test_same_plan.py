"""The same command decides the same in every process: no clock is asked unless ``tune`` says so."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import analyze
from analyze.gradients import tuning
from analyze.gradients.device import timing
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.threads import sharing
from analyze.probes import ProbeSet
from tests.crash import assert_same_arrays

DECIDED = ("plan", "batch_size", "shares", "tuned", "verification")
PROBES = 200


def network() -> nn.Module:
    """Calls of several kinds, which have several algorithms each."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 6 * 6, 10), nn.ReLU(), nn.Linear(10, 3),
    )  # fmt: skip


def probes() -> ProbeSet:
    draws = np.random.default_rng(0)
    images = draws.standard_normal((PROBES, 2, 8, 8)).astype(np.float32)
    return ProbeSet(images, draws.integers(0, 3, PROBES))


def decided(threads: int) -> dict[str, object]:
    """What a measurement by so many threads decided, and the bits that it gave."""
    with pytest.MonkeyPatch.context() as patch, threads_restored():
        patch.setattr(sharing, "WORTH_SHARING", 0.0)
        torch.set_num_threads(threads)
        tree = analyze.measure(network(), probes(), device="cpu", folds=3)
    gram = tree["parameters"].to_dataset()["gradient_gram"].values
    said = json.loads(tree.attrs["provenance"])
    return {name: said[name] for name in DECIDED} | {"bits": hashlib.sha256(gram).hexdigest()}


def test_a_fresh_process_decides_the_same_and_gives_the_same_bits():
    """By one thread and by two, whatever the order of sets and whatever was measured before."""
    code = "import json; from tests.test_same_plan import decided; "
    code += "print(json.dumps([decided(1), decided(2)]))"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    here = json.loads(json.dumps([decided(1), decided(2)]))
    assert json.loads(done.stdout) == here
    assert [each["shares"] for each in here] == [1, 2]
    assert all(each["plan"]["algorithms"] for each in here)


def engine(**options) -> Engine:
    return Engine(probes(), build_loss("cross_entropy"), Settings("cpu", **options))


@pytest.mark.parametrize("threads", [1, 2])
def test_no_clock_is_asked(threads, monkeypatch):
    def asked(*arguments):
        pytest.fail("a clock was asked")

    monkeypatch.setattr(sharing, "WORTH_SHARING", 0.0)
    for name in ("perf_counter", "monotonic", "process_time", "thread_time", "time"):
        monkeypatch.setattr(time, name, asked)
    untimed = engine()
    untimed.threads = threads
    untimed.prepare([network()])
    untimed.measure(network())
    assert untimed.current.shares == threads
    assert not untimed.current.tuned


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds of each piece of work that is timed: as many as a batch has examples, else 0.

    A batch of half the size takes an eighth of the time.
    """
    asked: list[float] = []

    def once(work, device) -> float:
        work()
        batch = work.args[2] if work.func.__name__ == "measured" else None
        asked.append(0.0 if batch is None else len(batch.rows) ** 3)
        return asked[-1]

    monkeypatch.setattr(timing, "once", once)
    return asked


def test_tuning_takes_the_fastest_of_twice_the_size_and_parts_of_it(clock):
    plain, tuned = engine(), engine(tune=True)
    plain.prepare([network()])
    tuned.prepare([network()])
    assert plain.current.cost == tuned.current.cost
    largest = tuning.largest_to_try(plain.current, PROBES)
    assert largest == PROBES == plain.batch_size  # one batch of all
    assert {round(seconds ** (1 / 3)) for seconds in clock if seconds} == {50, 100, 200}
    assert tuned.batch_size == 50
    assert (plain.current.tuned, tuned.current.tuned) == (False, True)


@pytest.mark.parametrize(("turns", "rounds"), [(1, 1), (10**12, 2)])
def test_tuning_takes_as_many_rounds_as_its_share_of_the_run_pays_for(turns, rounds, clock):
    """The first run of each is for memory that the others find."""
    tuned = engine(tune=True)
    tuned._turns = turns
    tuned.prepare([network()])
    assert len([seconds for seconds in clock if seconds]) == 1 + 2 + rounds * 2  # one is hopeless


def test_a_batch_size_that_is_asked_for_is_not_timed(clock):
    tuned = engine(tune=True, batch_size=7)
    tuned.prepare([network()])
    assert (tuned.batch_size, tuned.current.tuned) == (7, True)
    assert not any(clock)


@pytest.mark.parametrize(
    ("first", "then"),
    [(["--tune"], []), pytest.param([], ["--tune"], marks=pytest.mark.nightly)],
)
def test_a_resumed_run_keeps_its_plan_whatever_is_asked(first, then, tiny):
    assert tiny.run(*first).exit_code == 0
    before = analyze.open_results(tiny.output)
    tiny.units[1].unlink()
    assert tiny.run(*then).exit_code == 0
    after = analyze.open_results(tiny.output)
    assert_same_arrays(before, after)
    said = [json.loads(tree.attrs["provenance"]) for tree in (before, after)]
    assert [each["tuned"] for each in said] == [bool(first)] * 2
    assert said[0]["plan"] == said[1]["plan"]
