"""Batch norm: recomputed statistics are the oracle's, and do not depend on the batch size."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analyze
from analyze.gradients.step import batch_norm
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


class Towers(nn.Module):
    """One encoder for two inputs, three uses of its batch norm in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)
        self.spare, self.head = nn.BatchNorm1d(5), nn.Linear(10, 3)

    def forward(self, left, right):
        first, second = (torch.tanh(self.norm(self.encoder(x))) for x in (left, right))
        return self.head(torch.cat([self.norm(first), second], 1))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_statistics_of_a_layer_used_several_times_are_those_of_momentum_none(precision):
    torch.manual_seed(2)
    model, count = Towers().double(), 150
    model.spare.running_mean.fill_(3.0)
    inputs = {
        "left": torch.randn(count, 4).double(),
        "right": 3 + 2 * torch.randn(count, 4).double(),
    }
    targets = torch.arange(count) % 3
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets), precision=precision, folds=1, device="cpu"
    )
    averaged = copy.deepcopy(model)
    averaged.norm.momentum = None
    averaged.norm.reset_running_stats()
    averaged.train()
    for rows in np.array_split(np.array(oracle.hash_order(range(count))), 2):
        averaged(**oracle.take(inputs, rows))
    assert averaged.norm.num_batches_tracked == 6
    averaged.eval()
    losses = F.cross_entropy(averaged(**inputs), targets, reduction="none").detach()
    found = tree["examples"]["loss"].isel(checkpoint=0).values
    rtol = 1e-9 if precision == "float64" else 1e-5
    np.testing.assert_allclose(found, losses, rtol=rtol)


class Own(nn.Module):
    """Batch norm written by hand; ``name`` is that of its running mean."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer(name, torch.zeros(5))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.steps += 1
            setattr(self, self.name, 0.9 * getattr(self, self.name) + 0.1 * x.detach().mean(0))
        return x - getattr(self, self.name)


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.spectral_norm")
def test_statistics_of_ones_own_are_noted_by_name_as_used_as_saved():
    model = nn.Sequential(
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), Own("centre"),
        nn.BatchNorm1d(5), nn.InstanceNorm1d(5, track_running_stats=True), nn.Dropout(),
        Own("mean"), nn.Linear(5, 3),
    )  # fmt: skip
    model[3].forward = lambda x: x  # it takes other shapes
    probes = analyze.ProbeSet(torch.randn(8, 4), torch.arange(8) % 3)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    recomputed = analyze.measure(model, probes, device="cpu", folds=1)
    assert "recomputed: 1.centre, 5.mean, which" in recomputed.attrs["provenance"]
    saved = analyze.measure(model, probes, device="cpu", folds=1, batch_norm="saved")
    assert "1.centre" not in saved.attrs["provenance"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_models_that_cannot_run_in_training_mode_have_no_statistics_of_their_own():
    class NeedsTargets(nn.Linear):
        def forward(self, x, targets=None):
            assert not self.training or targets is not None
            return super().forward(x)

    probes = analyze.ProbeSet(torch.randn(8, 4), torch.arange(8) % 3)
    tree = analyze.measure(NeedsTargets(4, 3), probes, device="cpu", folds=1)
    assert "used as saved" not in tree.attrs["provenance"]


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
