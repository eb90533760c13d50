"""One batch by a plan: what is not as planned is noticed, never measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from analyze.gradients.batch import ForwardChangedError, measure_batch
from analyze.gradients.calibration import calibrate
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.replica import Inputs, Replica
from tests.cases import CASES, CLASSES, settled

CPU = torch.device("cpu")


def planned(model: nn.Module, inputs: Tensor):
    replica = Replica.copy_of(model, CPU, torch.float64)
    batch = Inputs({"": inputs})
    return replica, batch, calibrate(replica, batch)


def measure(replica: Replica, batch: Inputs, plan):
    return measure_batch(replica, batch, torch.arange(len(batch)) % CLASSES, CrossEntropy(), plan)


def test_a_parameter_used_past_the_calls_is_noticed():
    model, inputs, _ = settled(next(c for c in CASES if c.name == "token-and-position"))
    replica, batch, plan = planned(model, inputs)
    wrong = replace(plan, methods=plan.methods | {"position": "linear"})
    with pytest.raises(ForwardChangedError, match="past the calls"):
        measure(replica, batch, wrong)


class WritesOverItsInput(nn.Module):
    """Changes the input of a layer after the layer has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.inner = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.inner(x)
        x.add_(1.0)
        return y + x[:, :CLASSES]


def test_an_input_changed_in_place_is_noticed():
    replica, batch, plan = planned(WritesOverItsInput(), torch.randn(4, 5))
    with pytest.raises(ForwardChangedError, match="changed in place"):
        measure(replica, batch, plan)


def test_fewer_and_more_calls_than_planned_are_noticed():
    model, inputs, _ = settled(next(c for c in CASES if c.name == "linear"))
    replica, batch, plan = planned(model, inputs)
    with pytest.raises(ForwardChangedError, match="instead of"):
        measure(replica, batch, replace(plan, calls=(*plan.calls, plan.calls[-1])))
    with pytest.raises(ForwardChangedError):
        measure(replica, batch, replace(plan, calls=plan.calls[:-1]))


def test_the_plan_remembers_which_algorithm_was_fastest():
    model, inputs, _ = settled(next(c for c in CASES if c.name == "linear-1-position-axis"))
    replica, batch, plan = planned(model, inputs)
    measure(replica, batch, plan)
    assert set(plan.algorithms.values()) <= {"direct", "gram"}
    kept = dict(plan.algorithms)
    measure(replica, batch, plan)
    assert plan.algorithms == kept
