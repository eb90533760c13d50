"""Learning rates: where checkpoints have them, and the sums over checkpoints that they weigh."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import analyze
from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.checkpoints.learning_rate import learning_rate_in
from analyze.checkpoints.reading import read_content
from analyze.runs.outcome import checkpoint_of, record_of
from tests.conftest import NAMES, small_weights

RATES = (0.1, 0.05, 0.025)


def optimizer(*rates: float) -> dict:
    """The state of an optimizer with one group of parameters for each rate."""
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return torch.optim.AdamW(groups).state_dict()


def trainer(step: int, *entries: dict) -> dict:
    return {"global_step": step, "log_history": list(entries)}


KNOWN = {
    "optimizer": ({"optimizer": optimizer(0.1)}, {}),
    "optimizer_state_dict": ({"optimizer_state_dict": optimizer(0.1)}, {}),
    "two groups of one rate": ({"optim": optimizer(0.1, 0.1)}, {}),
    "lightning": ({"optimizer_states": [optimizer(0.1)]}, {}),
    "a tensor": ({"opt": {"param_groups": [{"lr": torch.tensor(0.1, dtype=torch.double)}]}}, {}),
    "logged": ({}, trainer(8, {"step": 4, "learning_rate": 0.2}, {"step": 8, "learning_rate": 0.1},
                           {"step": 8, "eval_loss": 1.0})),
}  # fmt: skip
UNKNOWN = {
    "nothing": ({}, {}),
    "groups that differ": ({"optimizer": optimizer(0.1, 0.2)}, {}),
    "two optimizers that differ": ({"optimizer_states": [optimizer(0.1), optimizer(0.2)]}, {}),
    "a group without": ({"optimizer": {"param_groups": [{"lr": 0.1}, {"weight_decay": 0.1}]}}, {}),
    "logged at another step": ({}, trainer(8, {"step": 4, "learning_rate": 0.1})),
    "logged without steps": ({}, {"log_history": [{"learning_rate": 0.1}]}),
    "a word": ({"optimizer": {"param_groups": [{"lr": "0.1"}]}}, {}),
    "not finite": ({"optimizer": {"param_groups": [{"lr": math.nan}]}}, {}),
    "no groups": ({"optimizer": {"param_groups": "lr"}, "optim": [[1], 3]}, {"log_history": "x"}),
    "entries of other kinds": ({}, trainer(8, 3, [8], {"step": [8], "learning_rate": 0.1})),
}


@pytest.mark.parametrize("case", KNOWN)
def test_the_rate_of_all_parameters_is_found(case):
    assert learning_rate_in(*KNOWN[case]) == 0.1


@pytest.mark.parametrize("case", UNKNOWN)
def test_no_rate_is_guessed(case):
    assert learning_rate_in(*UNKNOWN[case]) is None


def test_files_of_torch_and_of_a_trainer_have_it(tmp_path):
    torch.save({"model": small_weights(0), "optimizer": optimizer(0.1)}, tmp_path / "a.pt")
    assert read_content(tmp_path / "a.pt").learning_rate == 0.1
    torch.save(small_weights(0), tmp_path / "pytorch_model.bin")
    record = trainer(8, {"step": 8, "learning_rate": 0.2})
    (tmp_path / "trainer_state.json").write_text(json.dumps(record))
    assert read_content(tmp_path / "pytorch_model.bin").learning_rate == 0.2


def test_a_run_keeps_them_and_weighs_checkpoints_by_them(tiny):
    for name, rate in zip(NAMES, RATES, strict=True):
        saved = {"model": torch.load(tiny.path / name), "optimizer": optimizer(rate)}
        torch.save(saved, tiny.path / name)
    assert tiny.run("--directions", "all").exit_code == 0
    tree = analyze.open_results(tiny.output)
    examples = tree["examples"].to_dataset()
    np.testing.assert_array_equal(examples["learning_rate"], RATES)
    found = analyze.statistics.tracin(tree)
    assert found["tracin"].attrs["rates"] == "those of the checkpoints"
    along = examples["alignment"].sel(direction="all").astype(float).sum("layer")
    expected = (along * np.array(RATES)[:, None]).sum("checkpoint")
    np.testing.assert_allclose(found["tracin"].sel(direction="all"), expected, rtol=1e-6)


def test_the_record_of_a_unit_keeps_it_and_older_ones_have_none(tmp_path):
    checkpoint = Checkpoint("a.pt", tmp_path / "a.pt", 1.0, NAN, "none", "torch", "", "", 0)
    record = record_of(replace(checkpoint, learning_rate=0.1))
    assert checkpoint_of(record, tmp_path).learning_rate == 0.1
    del record["learning_rate"]
    assert math.isnan(checkpoint_of(record, tmp_path).learning_rate)


def test_results_with_rates_and_without_make_a_series(tiny):
    assert tiny.run("--checkpoints", ":1").exit_code == 0
    first = analyze.open_results(tiny.output)
    assert tiny.run("--checkpoints", "1:").exit_code == 0
    rest = analyze.open_results(tiny.output)
    older = first.copy()
    older["examples"] = first["examples"].to_dataset().drop_vars("learning_rate")
    assert "learning_rate" in analyze.concat([first, rest])["examples"].coords
    assert "learning_rate" not in analyze.concat([older, rest])["examples"].coords
