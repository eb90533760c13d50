"""Batch after batch of the probes, as the model takes them."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.data import loader as loader_module
from analyze.gradients.data.loader import ProbeLoader

CPU = torch.device("cpu")
BATCHES = [np.array([4, 0]), np.array([1]), np.array([5, 3, 2])]
WAIT = 30.0  # seconds after which what should come does not


def images() -> analyze.ProbeSet:
    draw = np.random.default_rng(0)
    inputs = draw.integers(0, 256, (6, 2, 3, 3), dtype=np.uint8)
    return analyze.ProbeSet(inputs, np.arange(6), mean=(0.2, 0.4), std=(0.3, 0.1))


class Stream(nullcontext):
    """A stream on which all is done at once."""

    def record_event(self) -> None:
        pass

    def wait_event(self, event: None) -> None:
        pass


@pytest.fixture(params=["in turn", "ahead"])
def loader(request, monkeypatch) -> ProbeLoader:
    """On a CPU, which stands in for a GPU where batches are moved ahead."""
    if request.param == "ahead":
        monkeypatch.setattr(loader_module, "moving_stream", lambda device: Stream())
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
        monkeypatch.setattr(torch, "Stream", lambda device: Stream())
        monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: Stream())
    return ProbeLoader(images())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_come_in_order_and_as_the_model_takes_them(loader, dtype):
    probes = images()
    found = list(loader.ahead(BATCHES, CPU, dtype))
    assert len(found) == len(BATCHES)
    for rows, (inputs, targets) in zip(BATCHES, found, strict=True):
        scaled = (probes.inputs[""][rows] / 255 - [[[0.2]], [[0.4]]]) / [[[0.3]], [[0.1]]]
        assert inputs.tensors[""].dtype == dtype
        expected = torch.from_numpy(scaled).to(dtype)
        torch.testing.assert_close(inputs.tensors[""], expected, rtol=1e-6, atol=1e-6)
        assert targets.tolist() == rows.tolist()


@pytest.mark.parametrize("loader", ["ahead"], indirect=True)
def test_on_a_gpu_the_next_batch_is_moved_while_one_is_measured(loader, monkeypatch):
    taken, second = [], threading.Event()
    take = ProbeLoader.take

    def watched(self, rows):
        taken.append(rows.tolist())
        if len(taken) == 2:
            second.set()
        return take(self, rows)

    monkeypatch.setattr(ProbeLoader, "take", watched)
    coming = loader.ahead(BATCHES, CPU, torch.float32)
    next(coming)
    assert second.wait(WAIT)
    assert taken == [[4, 0], [1]]  # and none beyond, which would take memory
    coming.close()


@pytest.mark.parametrize("loader", ["in turn"], indirect=True)
def test_on_a_cpu_a_batch_is_taken_in_its_turn(loader, monkeypatch):
    taken = []
    take = ProbeLoader.take
    monkeypatch.setattr(
        ProbeLoader, "take", lambda self, rows: taken.append(len(rows)) or take(self, rows)
    )
    coming = loader.ahead(BATCHES, CPU, torch.float32)
    next(coming)
    assert taken == [2]


def test_want_of_memory_is_told_at_its_batch(loader, monkeypatch):
    take = ProbeLoader.take

    def scarce(self, rows):
        if len(rows) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return take(self, rows)

    monkeypatch.setattr(ProbeLoader, "take", scarce)
    coming = loader.ahead(BATCHES, CPU, torch.float32)
    assert len(next(coming).targets) == 2
    assert len(next(coming).targets) == 1
    with pytest.raises(torch.OutOfMemoryError):
        next(coming)
