"""The sample runs: what they hold, and their numbers against the oracle.

``scripts/verify`` does the same for every checkpoint and probe.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import analyze
from analyze.checkpoints.scan import scan
from analyze.models.builtin import SmallResNet
from tests.against_oracle import (
    Verdict,
    errors_of_oracle,
    errors_of_tree,
    expected_statistics,
    read_probes,
    read_weights,
)
from tests.nightly import variants

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
RUNS = ("real_labels", "half_noise", "random_labels")
PROBES = 60
FOLDS = 10


def sample_probes(run: str):
    return read_probes(SAMPLES / f"{run}_probes.safetensors")


def test_probe_sets_have_equal_inputs_and_ids():
    first, *others = (sample_probes(run) for run in RUNS)
    assert len(first.ids) == 2500
    for other in others:
        assert other.ids == first.ids
        assert torch.equal(other.inputs, first.inputs)


def test_subsets_have_the_promised_sizes():
    counts = {}
    for run in RUNS:
        names, numbers = np.unique(sample_probes(run).subsets, return_counts=True)
        counts[run] = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    assert counts["real_labels"] == {"clean": 2000, "held_out": 500}
    assert counts["half_noise"] == {"clean": 1000, "corrupted": 1000, "held_out": 500}
    assert counts["random_labels"]["held_out"] == 500
    assert 150 < counts["random_labels"]["clean"] < 250


def test_corrupted_means_another_label_than_the_true_one():
    true = sample_probes("real_labels").targets
    for run in RUNS:
        probes = sample_probes(run)
        for given, truth, subset in zip(probes.targets, true, probes.subsets, strict=True):
            assert (subset == "corrupted") == (given != truth)


@pytest.mark.parametrize("run", RUNS)
def test_runs_are_found_in_order_from_step_zero(run):
    found = scan(SAMPLES / run)
    steps = [c.step for c in found.checkpoints]
    assert len(steps) == 12
    assert steps[0] == 0
    assert steps == sorted(steps)
    assert all(c.problem is None for c in found.checkpoints)


def test_together_at_most_20_megabytes():
    assert sum(f.stat().st_size for f in SAMPLES.rglob("*") if f.is_file()) <= 20e6


CHECKPOINTS = ("checkpoint_00000.pt", "checkpoint_00064.pt", "checkpoint_00960.pt")


@pytest.fixture(scope="module")
def probes():
    everything = sample_probes("half_noise")
    rows = np.linspace(0, len(everything.ids) - 1, PROBES).astype(int)
    return everything.take([everything.ids[r] for r in rows])


def expected(checkpoint: str, probes, **options):
    model = SmallResNet()
    model.load_state_dict(read_weights(SAMPLES / "half_noise" / checkpoint))
    return expected_statistics(model, probes, FOLDS, recompute=True, **options)


@pytest.fixture(scope="module")
def exact(probes):
    """The oracle on three checkpoints of half_noise."""
    return {name: expected(name, probes) for name in CHECKPOINTS}


ROUNDING = [("float64", 2), ("float32", 16), ("float64", 16), ("float32", 2)]


@pytest.mark.parametrize(("precision", "batch_size"), variants(ROUNDING, lambda *both: both))
def test_numbers_are_those_of_one_example_at_a_time(probes, exact, tmp_path, precision, batch_size):
    given = analyze.ProbeSet(
        probes.inputs.numpy(), probes.targets, probes.subsets, probes.ids,
        held_out=probes.held_out, subset_names=probes.names,
    )  # fmt: skip
    tree = analyze.run(
        SAMPLES / "half_noise", probes=given, output=tmp_path / "out.h5", device="cpu",
        precision=precision, batch_size=batch_size, checkpoints="::5",
    )  # fmt: skip
    assert tuple(tree.to_dataset()["checkpoint"].values) == CHECKPOINTS
    for k, name in enumerate(CHECKPOINTS):
        plain = None
        if precision == "float32":
            statistics = expected(name, probes, dtype=torch.float32, batch_size=batch_size)
            plain = errors_of_oracle(tree, statistics, exact[name])
        verdict = Verdict.on(errors_of_tree(tree, k, exact[name]), plain)
        assert verdict.good, f"{name}: {verdict}"


CACHING = """
import torch
from torch import nn


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 784))
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.weight * 2.0
        return x.flatten(1) @ self.kept.T


def build():
    return Caching()
"""


def test_a_caching_model_measures_each_checkpoint_right(tmp_path):
    """A then B equals B alone, and both equal plain autograd without a cache."""
    (tmp_path / "model.py").write_text(CACHING)
    torch.manual_seed(0)
    (tmp_path / "run").mkdir()
    for step in range(2):
        weights = {"weight": 0.01 * torch.randn(10, 784)}
        torch.save(weights, tmp_path / "run" / f"step_{step}.pt")
    options = {
        "model": f"{tmp_path / 'model.py'}:build",
        "probes": SAMPLES / "half_noise_probes.safetensors",
        "output": tmp_path / "out.h5",
        "max_probes": 40,
        "device": "cpu",
    }
    both = analyze.run(tmp_path / "run", **options)["network"].to_dataset()
    alone = analyze.run(tmp_path / "run", checkpoints="step_1.pt", **options)["network"]
    alone = alone.to_dataset()
    second = both.isel(checkpoint=1)
    np.testing.assert_allclose(second["m_coherence"], alone["m_coherence"][0], rtol=1e-6)
    assert abs(both["m_coherence"][0] - second["m_coherence"]).max() > 1e-3
    linear = torch.nn.Linear(784, 10, bias=False)
    linear.weight.data = 2 * torch.load(tmp_path / "run" / "step_1.pt")["weight"]
    probes = analyze.probes.read_probes(SAMPLES / "half_noise_probes.safetensors")
    order = np.argsort(analyze.probes.cells.mixed(probes.id), kind="stable")[:40]
    taken = probes.take(np.sort(order))
    flat = (taken.inputs[""].reshape(40, -1) / 255 - probes.mean[0]) / probes.std[0]
    subset = [taken.subset_names[s] for s in taken.subset]
    plain = analyze.measure(
        linear, analyze.ProbeSet(flat, taken.targets, subset, taken.id), device="cpu"
    )
    plain = plain["network"].to_dataset().isel(checkpoint=0).sel(subset=second["subset"])
    np.testing.assert_allclose(second["m_coherence"], plain["m_coherence"], rtol=1e-5)


def test_the_warning_about_lagging_statistics_names_the_checkpoints(tmp_path):
    tree = analyze.run(
        SAMPLES / "random_labels", output=tmp_path / "out.h5", checkpoints="*step=640*",
        max_probes=60, device="cpu",
    )  # fmt: skip
    warnings = json.loads(tree.attrs["provenance"])["warnings"]
    assert len(warnings) == 1
    assert "epoch=20-step=640.ckpt" in warnings[0]
