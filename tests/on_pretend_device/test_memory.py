"""Out of memory on the device at any moment: right numbers or a message, each time the same."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze.gradients import planner
from analyze.gradients.device import devices
from analyze.gradients.device.memory import let_go
from analyze.gradients.engine import Engine
from analyze.gradients.established import ESTABLISHED
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.step import batch as one_batch
from analyze.gradients.sums import cell_sums
from analyze.gradients.threads import probe_batches
from tests.nightly import of_every_run
from tests.pretend_device import device

DEVICE = torch.device("pretend:0")
WIDTH, PROBES, CLASSES = 24, 40, 3


class Residual(torch.nn.Module):
    """Convolutions whose batch norms and branches have backward passes that wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, WIDTH, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(WIDTH)
        self.inner = torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.head = torch.nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head((x + torch.relu(self.inner(x))).mean((2, 3)))


def problem() -> tuple[torch.nn.Module, analyze.ProbeSet]:
    torch.manual_seed(0)
    inputs = torch.randn(PROBES, 1, 8, 8)
    return Residual(), analyze.ProbeSet(inputs, torch.arange(PROBES) % CLASSES)


def measured(**options) -> xr.DataTree:
    """The model's statistics; nothing is known of it from before."""
    ESTABLISHED.forget()
    settings = {"device": "pretend", "precision": "float64", "folds": 2, "batch_size": 20}
    return analyze.measure(*problem(), **(settings | options))


def gram(tree: xr.DataTree) -> np.ndarray:
    return tree["parameters"]["gradient_gram"].values


def said(tree: xr.DataTree) -> dict[str, object]:
    provenance = json.loads(tree.attrs["provenance"])
    return {key: provenance[key] for key in ("batch_size", "cell_sums", "warnings")}


def held() -> int:
    gc.collect()
    return device.held()


@pytest.fixture(autouse=True)
def _room() -> Iterator[None]:
    yield
    device.limit(None)
    device.fail_at(0)
    devices._share.cache_clear()


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return gram(measured())


def test_a_measurement_holds_nothing_afterwards():
    measured()
    before = held()
    measured()
    let_go(RuntimeError(), DEVICE)
    assert held() == before


@pytest.mark.parametrize("repetition", range(10))
def test_of_a_backward_pass_that_failed_nothing_is_held(repetition):
    """Autograd's thread has let go of all of it, also of branches that it had not come to."""
    before = held()
    x = torch.randn(16, WIDTH, 8, 8, device=DEVICE, requires_grad=True)
    branches = [torch.tanh(x * k).exp() for k in range(8)]
    output = torch.stack(branches).sum()
    del branches
    device.fail_at(3 + repetition)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.autograd.grad(output, x)
    error = caught.value
    del output, x, caught
    let_go(error, DEVICE)
    assert device.held() - before <= 8  # the numbers of the pass that waited, and no garbage


@pytest.mark.parametrize("times", of_every_run([3, 10], {"3"}))
def test_batch_sizes_are_the_same_each_time(expected, times):
    """Whatever autograd's thread was doing when the next batch began."""
    options = {"batch_size": PROBES}
    measured(**options)
    let_go(RuntimeError(), DEVICE)
    device.reset_peak()
    before = held()
    measured(**options)
    device.limit(before + (device.peak() - before) // 2)
    seen = []
    for _ in range(times):
        tree = measured(**options)
        np.testing.assert_allclose(gram(tree), expected, rtol=1e-9)
        seen.append(said(tree))
    assert seen[0]["warnings"]
    assert all(other == seen[0] for other in seen)


def moments(step: int) -> list[int]:
    """Some allocations of a measurement, ``step`` apart."""
    before = device.allocations()
    measured()
    return list(range(1, device.allocations() - before, step))


def outcome(number: int, expected: np.ndarray) -> str:
    """What comes of a measurement of which an allocation fails: its numbers, or what it says."""
    device.fail_at(number)
    try:
        tree = measured()
    except analyze.InputError as error:
        return error.found
    finally:
        device.fail_at(0)
    right = np.allclose(gram(tree), expected, rtol=1e-9, equal_nan=True)
    return "right" if right else "wrong"


def assert_right_or_told(step: int, expected: np.ndarray) -> None:
    """Where an allocation fails, of those that are ``step`` apart, numbers are right or missing."""
    outcomes = {number: outcome(number, expected) for number in moments(step)}
    assert "right" in outcomes.values()
    others = {k: said for k, said in outcomes.items() if said != "right"}
    assert all(said.startswith("out of memory on pretend:0 ") for said in others.values()), others


def test_memory_may_run_out_at_any_moment(expected):
    assert_right_or_told(211, expected)


@pytest.mark.nightly
def test_memory_may_run_out_at_every_tenth_moment(expected):
    assert_right_or_told(10, expected)


def test_runs_that_are_compared_are_of_one_size(monkeypatch):
    """The second of them runs out of memory: both are made again."""
    sizes, compared = [], []
    measure_batch, same_bits = one_batch.measure_batch, planner.BatchResult.same_bits

    def scarce(replica, inputs, *arguments):
        sizes.append(len(inputs))
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("pretend: out of memory")
        return measure_batch(replica, inputs, *arguments)

    def watched(self, other):
        compared.append((len(self.losses), len(other.losses)))
        return same_bits(self, other)

    monkeypatch.setattr(probe_batches, "measure_batch", scarce)
    monkeypatch.setattr(planner.BatchResult, "same_bits", watched)
    tree = measured()
    assert sizes[:4] == [20, 20, 10, 10]
    assert compared == [(10, 10)]
    assert said(tree)["warnings"] == ["out of memory: batches of 10 from then on"]


def test_sums_go_to_pinned_host_memory_before_batches_are_tiny(monkeypatch):
    """Many cells of a small model: their sums are most of what is held when memory runs out."""
    options = {"folds": 20, "precision": "float32"}
    expected = gram(measured(**options))
    places, zeros = [], cell_sums.zeros

    def watched(*arguments):
        rows = zeros(*arguments)
        places.append((rows.device.type, rows.is_pinned()))
        return rows

    measure_batch, failed = one_batch.measure_batch, []

    def scarce(replica, inputs, targets, loss, plan, segments, clock=None, take=None, *more):
        result = measure_batch(replica, inputs, targets, loss, plan, segments, clock, take, *more)
        if take is not None and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("pretend: out of memory")
        return result

    monkeypatch.setattr(cell_sums, "zeros", watched)
    monkeypatch.setattr(probe_batches, "measure_batch", scarce)
    tree = measured(**options)
    assert {place for place in places if place[0] == "cpu"} == {("cpu", True)}
    assert (said(tree)["cell_sums"], said(tree)["batch_size"]) == ("host memory", 20)
    np.testing.assert_array_equal(gram(tree), expected)


def test_an_engine_goes_on_after_it():
    """Nor is anything of it left in a second model."""
    _, probes = problem()
    settings = Settings("pretend", precision="float64", batch_size=20, folds=2)
    engine = Engine(probes, build_loss("cross_entropy"), settings)
    engine.prepare([problem()[0]])
    first = engine.measure(problem()[0])
    before = held()
    device.fail_at(200)
    second = engine.measure(problem()[0])
    np.testing.assert_allclose(first.gram, second.gram, rtol=1e-9)
    let_go(RuntimeError(), DEVICE)
    assert held() <= before
