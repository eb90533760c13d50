"""Gram matrices of the cells' sums take the memory that there is; no batch is measured again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.device import float64
from analyze.gradients.sums import gram_matrices
from analyze.gradients.sums.gram_matrices import gram_matrix
from analyze.gradients.threads import probe_batches
from tests import oracle
from tests.pretend_device import device

DEVICE = torch.device("pretend")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _room():
    yield
    device.limit(None)


def test_float64_is_dear_on_a_device_that_is_not_known():
    assert float64.is_dear(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("room", [64, 4, 1])
def test_a_gram_matrix_in_little_memory(room, dtype):
    rows = torch.randn(20, 100_003, dtype=dtype)
    here = rows.to(DEVICE)
    device.limit(device.held() + room * MIB)
    found = gram_matrix(here, DEVICE).cpu().numpy()
    exact = (rows.double() @ rows.double().T).numpy()
    assert oracle.scaled_gram_error(found, exact) < (2e-9 if dtype == torch.float32 else 1e-13)


def test_without_memory_for_the_least_it_runs_out():
    here = torch.randn(20, 5000).to(DEVICE)
    device.limit(device.held() + 1000)
    with pytest.raises(torch.OutOfMemoryError):
        gram_matrix(here, DEVICE)


def test_a_measurement_does_that_step_alone_again(monkeypatch):
    """As many batches as with room for all."""
    in_parts, measure_batch = gram_matrices._in_parts, probe_batches.measure_batch
    sizes, columns = [], []

    def short_of_memory(sums, place, at_a_time):
        columns.append(at_a_time)
        if columns[-1] > 2000:
            device.limit(device.held())
        try:
            return in_parts(sums, place, at_a_time)
        finally:
            device.limit(None)

    def counted(replica, inputs, *arguments, **options):
        sizes.append(len(inputs))
        return measure_batch(replica, inputs, *arguments, **options)

    monkeypatch.setattr(probe_batches, "measure_batch", counted)
    model = torch.nn.Sequential(torch.nn.Linear(70, 60), torch.nn.Tanh(), torch.nn.Linear(60, 5))
    probes = analyze.ProbeSet(torch.randn(24, 70), torch.arange(24) % 5)
    options = {"device": "pretend", "batch_size": 8, "folds": 2}
    analyze.measure(model, probes, **options)  # what is found out once
    sizes.clear()
    expected = analyze.measure(model, probes, **options)
    before = sizes.copy()
    sizes.clear()
    monkeypatch.setattr(gram_matrices, "_in_parts", short_of_memory)
    found = analyze.measure(model, probes, **options)
    assert sizes == before
    assert len(columns) == 5  # one of four parameters twice
    np.testing.assert_allclose(
        found["parameters"]["gradient_gram"], expected["parameters"]["gradient_gram"], rtol=1e-6
    )
