"""Batch norm: recomputed statistics are the oracle's, and do not depend on the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analyze
from analyze.gradients import batch_norm
from tests import oracle


def problem():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3),
    )  # fmt: skip
    inputs = torch.randn(150, 2, 6, 6) * 2 + 0.5
    subset = ["held_out" if k % 5 == 0 else "clean" for k in range(150)]
    return model, inputs, torch.randint(3, (150,)), subset


@pytest.mark.parametrize("batch_size", [7, 64])
def test_recomputed_statistics_are_those_of_the_oracle(batch_size):
    model, inputs, targets, subset = problem()
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets, subset), precision="float64", folds=1,
        device="cpu", batch_size=batch_size,
    )  # fmt: skip
    order = [k for k in oracle.hash_order(range(150)) if subset[k] != "held_out"]
    model = model.double()
    oracle.recompute_batch_norm(model, inputs.double(), order)
    names = list(tree["parameters"]["cell_subset"].values)
    cell = [names.index(s) for s in subset]
    expected = oracle.statistics(model, inputs, targets, cell, 2)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    for name, gram in expected.gram.items():
        found = parameters["gradient_gram"].sel(parameter=name).values
        assert oracle.scaled_gram_error(found, gram) < 1e-9


def test_saved_and_recomputed_differ_and_both_losses_are_kept():
    model, inputs, targets, subset = problem()
    probes = analyze.ProbeSet(inputs, targets, subset)
    trees = {
        mode: analyze.measure(model, probes, batch_norm=mode, device="cpu")
        for mode in ("saved", "recomputed")
    }
    for mode, tree in trees.items():
        np.testing.assert_allclose(tree["loss"], tree[f"loss_{mode}"], rtol=1e-6)
    saved, recomputed = trees["saved"], trees["recomputed"]
    np.testing.assert_allclose(saved["loss_recomputed"], recomputed["loss"], rtol=1e-6)
    np.testing.assert_allclose(recomputed["loss_saved"], saved["loss"], rtol=1e-6)
    assert abs(saved["loss"].values - recomputed["loss"].values).max() > 0.05
    assert "lag behind" in saved.attrs["provenance"]


@pytest.mark.parametrize("mode", ["saved", "recomputed"])
def test_both_losses_are_of_the_same_probes_of_each_subset(mode, monkeypatch):
    monkeypatch.setattr(batch_norm, "COMPARED_EXAMPLES", 5)
    model, inputs, targets, subset = problem()
    probes = analyze.ProbeSet(inputs, targets, subset)
    tree = analyze.measure(model, probes, batch_norm=mode, device="cpu")
    of_subset = {
        name: [k for k in oracle.hash_order(range(150)) if subset[k] == name][:5]
        for name in ("clean", "held_out")
    }
    with torch.no_grad():
        for name, rows in of_subset.items():
            loss = F.cross_entropy(model.eval()(inputs[rows]), targets[rows]).item()
            assert tree["loss_saved"].sel(subset=name).item() == pytest.approx(loss, rel=1e-6)
        order = [k for k in oracle.hash_order(range(150)) if subset[k] != "held_out"]
        oracle.recompute_batch_norm(model, inputs, order)
        for name, rows in of_subset.items():
            loss = F.cross_entropy(model.eval()(inputs[rows]), targets[rows]).item()
            assert tree["loss_recomputed"].sel(subset=name).item() == pytest.approx(loss, rel=1e-5)


def test_models_without_batch_norm_have_one_loss():
    tree = analyze.measure(
        nn.Linear(4, 3), analyze.ProbeSet(torch.randn(6, 4), torch.arange(6) % 3), device="cpu"
    )
    assert "loss_saved" not in tree.data_vars


def test_one_probe_is_too_few_to_recompute_from():
    model, inputs, targets, _ = problem()
    probes = analyze.ProbeSet(inputs[:3], targets[:3], ["held_out", "held_out", "clean"])
    with pytest.raises(analyze.InputError, match="too few probes") as caught:
        analyze.measure(model, probes, device="cpu")
    assert "--batch-norm saved" in caught.value.fix


def test_all_held_out_leaves_nothing_in_all():
    model, inputs, targets, _ = problem()
    probes = analyze.ProbeSet(inputs[:4], targets[:4], ["held_out"] * 4)
    tree = analyze.measure(model, probes, batch_norm="saved", device="cpu")
    network = tree["network"].to_dataset().isel(checkpoint=0)
    assert np.isnan(network["m_coherence"].sel(subset="all"))
    assert np.isfinite(network["m_coherence"].sel(subset="held_out"))
