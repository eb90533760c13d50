"""What a pass costs is counted, the same each time, and no clock is asked."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from analyze.gradients.costs.passes import PassCost, cost_of
from analyze.gradients.costs.rates import Rates, known_rates
from analyze.gradients.device.devices import KINDS
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.intercept import CountedCalls

CPU = torch.device("cpu")
POSITIONS, WIDTH = 6, 8


class Attention(nn.Module):
    """Attention of one head by torch's own function."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Recurrent(nn.Module):
    """A recurrent layer, whose steps are opened while measuring."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(WIDTH, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0][:, -1]


def cost(model: nn.Module, example: Tensor) -> PassCost:
    replica = Replica(model.eval(), CPU, torch.float32)

    def forward() -> None:
        with CountedCalls():
            replica(Inputs({"": example}))

    return cost_of(forward, replica)


def positions(count: int = POSITIONS) -> Tensor:
    return torch.randn(1, count, WIDTH)


@pytest.mark.parametrize(
    ("build", "example"),
    [
        (lambda: torchvision.models.resnet18(num_classes=3), torch.randn(1, 3, 32, 32)),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=3), torch.randn(1, 3, 32, 32)),
        (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), torch.randn(1, 4, 5, 5)),
        (lambda: nn.Sequential(nn.Linear(WIDTH, 9), nn.ReLU(), nn.Linear(9, 2)), positions()),
    ],
    ids=["resnet", "mobilenet", "transposed", "linear"],
)
def test_multiply_adds_are_those_of_torch(build, example):
    model = build().eval()
    with FlopCounterMode(display=False) as torchs:
        model(example)
    counted = cost(model, example)
    assert counted.multiply_adds == torchs.get_total_flops() / 2 > 0


def test_attention_multiplies_each_position_with_all():
    x = positions()
    expected = 2 * POSITIONS * POSITIONS * WIDTH
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), Attention())
    assert cost(model, x).multiply_adds == POSITIONS * WIDTH**2 + expected


def test_a_recurrent_layer_counts_by_its_steps():
    few, many = cost(Recurrent(), positions(10)), cost(Recurrent(), positions(20))
    assert many.multiply_adds == 2 * few.multiply_adds > 0
    assert many.operations > few.operations + 10


def test_what_is_counted_is_what_there_is():
    model = nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh())
    counted = cost(model, torch.randn(1, WIDTH))
    assert (counted.parameters, counted.values) == (2, 3 * WIDTH + 3)
    assert counted.written >= 2 * 4 * 3  # what the layer gives, and tanh
    assert counted.kept == 4 * (WIDTH + 3)  # the layer's input, and what tanh gave


def test_parameters_that_are_not_measured_count_for_nothing():
    model = nn.Linear(WIDTH, 3)
    replica = Replica(model, CPU, torch.float32, {"bias"})
    counted = cost_of(lambda: replica(Inputs({"": torch.randn(1, WIDTH)})), replica)
    assert (counted.parameters, counted.values) == (1, 3)


def test_a_model_that_differentiates_inside_counts_all_that_it_computes():
    class Inside(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return torch.func.jacrev(lambda z: z**2)(y).diagonal(dim1=1, dim2=3).sum(1)

    counted = cost(Inside(WIDTH, 3), torch.randn(1, WIDTH))
    assert counted.kept == counted.written > 0


@pytest.mark.parametrize("kind", known_rates())
def test_more_work_takes_longer_on_every_kind_of_device(kind):
    rates = known_rates()[kind]
    some = PassCost(operations=10, multiply_adds=10**6, written=10**6, kept=1, parameters=4,
                    values=10**5)  # fmt: skip
    for field in ("operations", "multiply_adds", "written", "parameters", "values"):
        more = dataclasses.replace(some, **{field: 2 * getattr(some, field)})
        assert rates.seconds(more, 8) > rates.seconds(some, 8)
        assert rates.seconds_of_autograd(more, 1) > rates.seconds_of_autograd(some, 1)
    assert rates.seconds(some, 16) < 2 * rates.seconds(some, 8)
    assert rates.source


def test_every_device_has_rates():
    kinds = known_rates()
    assert KINDS.keys() - {"cpu"} <= kinds.keys()
    assert Rates.of(CPU) in kinds.values()


def test_a_processor_that_was_not_measured_counts_as_the_nearest(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert Rates.of(CPU) == known_rates()["AVX2"]
