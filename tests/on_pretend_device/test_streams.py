"""Streams and devices: who waits for whom, and whose memory it is."""

from __future__ import annotations

import gc
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import analyze
from analyze.gradients.data import loader
from analyze.gradients.device.devices import moving_stream, pinned, synchronize
from analyze.gradients.device.timing import Clock, once, seconds
from tests.pretend_device import device

FIRST, SECOND = torch.device("pretend:0"), torch.device("pretend:1")
DEVICES = pytest.mark.parametrize("place", [FIRST, SECOND], ids=str)


class Observing(nn.Module):
    """Notes the current device of its passes, as a kernel that is no part of torch meets it."""

    met: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.met.append(torch.accelerator.current_device_index())
        return self.layer(x.flatten(1))


def images() -> analyze.ProbeSet:
    """As bytes, which the device decodes: memory of its own stream."""
    draw = np.random.default_rng(0)
    inputs = draw.integers(0, 256, (24, 3, 2, 2), dtype=np.uint8)
    return analyze.ProbeSet(inputs, np.arange(24) % 3, mean=(0.5,) * 3, std=(0.2,) * 3)


def measured(place: torch.device) -> np.ndarray:
    """In six batches, each moved while the one before it is measured."""
    tree = analyze.measure(Observing(), images(), device=str(place), batch_size=4, folds=1)
    return tree["network"]["m_coherence"].values


def late(place: torch.device) -> torch.Tensor:
    """A copy to the device that is done only when somebody waits for its stream."""
    with torch.Stream(place):
        return torch.ones(3).pin_memory().to(place, non_blocking=True)


def let_go_of_too_early(place: torch.device) -> int:
    """Blocks that were freed, and may be used again, while the stream of here still reads them."""
    before = device.unrecorded()
    batches = [np.arange(k, k + 4) for k in range(0, 24, 4)]
    for inputs, targets in loader.ProbeLoader(images()).ahead(batches, place, torch.float32):
        work = inputs.tensors[""] + 1, targets + 1  # which nobody waits for
        del inputs, targets, work
    gc.collect()
    return device.unrecorded() - before


@DEVICES
def test_no_memory_is_let_go_of_while_a_stream_may_use_it(place):
    assert let_go_of_too_early(place) == 0
    before = device.unrecorded()
    measured(place)
    gc.collect()
    assert device.unrecorded() == before


def test_memory_that_was_not_recorded_would_be_seen(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    assert let_go_of_too_early(FIRST) > 0


@DEVICES
def test_numbers_are_those_of_a_cpu(place):
    np.testing.assert_allclose(measured(place), measured(torch.device("cpu")), rtol=1e-6)


def test_a_device_has_one_stream_that_moves_probes():
    assert moving_stream(FIRST) == moving_stream(FIRST)
    assert moving_stream(FIRST) not in (None, torch.accelerator.current_stream(FIRST))
    assert moving_stream(SECOND).device == SECOND


@pytest.mark.parametrize(
    "wait",
    [synchronize, lambda place: once(lambda: None, place),
     lambda place: seconds(lambda: None, place),
     lambda place: Clock(place).measuring("a").__enter__()],
    ids=["synchronize", "once", "seconds", "clock"],
)  # fmt: skip
def test_one_device_is_waited_for_and_not_the_other(wait):
    one, other = late(FIRST), late(SECOND)
    wait(SECOND)
    with torch.Stream(FIRST), torch.Stream(SECOND):  # whose operations wait for no other stream
        assert bool(torch.isnan(one).all())
        assert other.tolist() == [1, 1, 1]


@DEVICES
def test_the_device_that_measures_is_the_current_one_meanwhile(place):
    Observing.met.clear()
    before = torch.accelerator.current_device_index()
    measured(place)
    assert set(Observing.met) == {place.index}
    assert torch.accelerator.current_device_index() == before


def test_what_is_moved_is_pinned_first_so_that_it_moves_by_itself():
    """From memory that is not, the copy would be done at once."""
    source = torch.ones(2, 3)
    assert pinned(source).is_pinned()
    with torch.Stream(SECOND):
        moved = pinned(source).to(SECOND, non_blocking=True)
    assert bool(torch.isnan(moved).all())
