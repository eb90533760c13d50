"""What a run notices of itself: values that are no numbers, bits that do not repeat."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.threads import probe_batches
from analyze.gradients.workload import Workload
from analyze.probes import write_probes
from tests.conftest import NAMES, small_probes, small_weights
from tests.nightly import of_every_run

MODEL = """
import torch
from torch import nn


class Root(nn.Module):
    def forward(self, x):
        return x.abs().sqrt()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 5)
        self.root = Root()
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.root(self.first(x)))


def net():
    return Net()
"""


def with_weights(tiny, name: str, change) -> None:
    """Change the weights of one checkpoint."""
    weights = small_weights(3)
    change(weights)
    torch.save(weights, tiny.path / name)


def overflowing(weights) -> None:
    """Finite weights with outputs beyond float32."""
    for key in weights:
        weights[key] = weights[key] * 1e20


def statuses(tiny) -> dict[str, str]:
    tree = analyze.open_results(tiny.output)
    return dict(zip(tree["checkpoint"].values, tree["status"].values, strict=True))


@pytest.mark.parametrize("name", of_every_run(NAMES, {"step_10.pt"}))
def test_a_loss_that_is_not_finite_is_counted_by_subset_and_found_in_the_model(tiny, name):
    with_weights(tiny, name, overflowing)
    result = tiny.run()
    assert result.exit_code == 4, result.stderr
    found = statuses(tiny)
    assert [found[n] for n in NAMES if n != name] == ["ok", "ok"]
    assert found[name].startswith("the loss is not finite: ")
    assert "for probe" in found[name]
    assert "first in the output of" in found[name]


def test_the_numbers_by_subset(tiny):
    with_weights(tiny, NAMES[1], overflowing)
    tiny.run("--batch-norm", "saved")
    status = statuses(tiny)[NAMES[1]]
    found = re.fullmatch(
        r"the loss is not finite: (?:nan|inf) for probe \d+; (\d+) such probes of 24: "
        r"(\d) of clean, (\d) of corrupted, (\d) of held_out; "
        r"first in the output of \w+ \(Linear\)",
        status,
    )
    assert found is not None, status
    total, *subsets = map(int, found.groups())
    assert total == sum(subsets)


def square_root_run(tiny, *zeros: str):
    """A network with a square root, at 0 in some checkpoints for the probes 5 and 6."""
    code = tiny.path.parent / "net.py"
    code.write_text(MODEL, encoding="utf-8")
    probes = small_probes()
    probes.inputs[""][5:7] = 0.0
    write_probes(tiny.probes, probes)
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        weights = {
            "first.weight": torch.rand(5, 12) * 0.01, "first.bias": torch.ones(5),
            "last.weight": torch.randn(3, 5), "last.bias": torch.zeros(3),
        }  # fmt: skip
        if name in zeros:
            weights["first.bias"].zero_()
        torch.save(weights, tiny.path / name)
    return tiny.run("--model", f"{code}:net")


def test_a_gradient_that_is_not_finite_is_counted_by_layer_and_subset(tiny, monkeypatch):
    monkeypatch.setattr(Workload, "rows", lambda self, count: np.arange(min(count, 5)))
    result = square_root_run(tiny, NAMES[1])
    assert result.exit_code == 4, result.stderr
    status = statuses(tiny)[NAMES[1]]
    assert status == (
        "a gradient is not finite: NaN or infinity in 1 of 2 layers, from the output on: first "
        "(1 of clean, 1 of held_out)"
    )
    assert statuses(tiny)[NAMES[0]] == statuses(tiny)[NAMES[2]] == "ok"


def test_the_plan_is_not_made_on_a_checkpoint_without_finite_gradients(tiny, monkeypatch):
    monkeypatch.setattr(Workload, "rows", lambda self, count: np.arange(4, 4 + count))
    result = square_root_run(tiny, NAMES[0])
    assert result.exit_code == 4, result.stderr
    assert provenance(tiny)["repeatable"] is True
    assert "one at a time" not in provenance(tiny)["plan"]["methods"].values()


def test_a_gradient_that_the_proof_meets_is_no_fault_of_the_method(tiny, monkeypatch):
    monkeypatch.setattr(Workload, "rows", lambda self, count: np.arange(4, 4 + count))
    result = square_root_run(tiny, NAMES[1])
    assert result.exit_code == 4, result.stderr
    assert statuses(tiny)[NAMES[1]].startswith("losses or gradients are not finite: ")
    assert "gradients with NaN or infinity in first.weight, first.bias" in result.stderr


def test_all_checkpoints_diverged_is_an_error_with_the_reason(tiny):
    for name in NAMES:
        with_weights(tiny, name, overflowing)
    result = tiny.run()
    assert result.exit_code == 3
    assert "the loss is not finite" in result.stderr


def test_on_error_fail_stops_at_the_diverged_one(tiny):
    with_weights(tiny, NAMES[2], overflowing)
    result = tiny.run("--on-error", "fail")
    assert result.exit_code == 3
    assert "the loss is not finite" in result.stderr


def provenance(tiny) -> dict:
    return json.loads(analyze.open_results(tiny.output).attrs["provenance"])


def test_a_device_that_repeats_itself_is_recorded(tiny):
    assert tiny.run().exit_code == 0
    assert provenance(tiny)["repeatable"] is True


def test_a_device_that_does_not_is_recorded_and_warned_of_also_after_a_resume(tiny):
    measure_batch = probe_batches.measure_batch
    calls = []

    def noisy(replica, inputs, *arguments):
        result = measure_batch(replica, inputs, *arguments)
        calls.append(None)
        result.squared_norms[:] *= 1 + 1e-12 * len(calls)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_batches, "measure_batch", noisy)
        result = tiny.run()
    assert result.exit_code == 0
    said = "the same batch measured twice gives other bits on cpu"
    for resumed in (False, True):
        told = tiny.run() if resumed else result  # resumed, nothing is measured again
        found = provenance(tiny)
        assert said in told.stderr
        assert found["repeatable"] is False
        assert any(said in text for text in found["warnings"])
