"""What has no exact per-example gradient is refused, and the module is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients import plan
from analyze.gradients.calibrate import calibration
from tests import oracle

EXAMPLES = 6


class BatchCentred(nn.Module):
    """Subtracts the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class AlwaysDropout(nn.Module):
    """Drops out in eval mode as well."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class MixesInForward(nn.Module):
    """Mixes outside of any module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x / x.norm()


class Scripted(nn.Module):
    """Holds TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        x = torch.randn(2, 4)
        self.inner = torch.jit.trace(nn.Linear(4, 4), x)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def images() -> Tensor:
    return torch.randn(EXAMPLES, 3, 4, 4)


def vectors() -> Tensor:
    return torch.randn(EXAMPLES, 4)


def tokens() -> Tensor:
    return torch.randint(5, (EXAMPLES, 3))


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


REFUSED = [
    pytest.param(lambda: network(nn.BatchNorm2d(3, track_running_stats=False)), images,
                 r"mixes the examples[\s\S]*0 \(BatchNorm2d\)", id="batch-norm-of-the-batch"),
    pytest.param(lambda: network(nn.Linear(4, 4), BatchCentred()), vectors,
                 r"mixes the examples[\s\S]*1 \(BatchCentred\)", id="batch-mean"),
    pytest.param(MixesInForward, vectors,
                 r"mixes the examples[\s\S]*the root \(MixesInForward\)", id="outside-of-modules"),
    pytest.param(lambda: network(nn.Linear(4, 4), AlwaysDropout()), vectors,
                 r"not deterministic[\s\S]*1 \(AlwaysDropout\)", id="dropout-left-on"),
    pytest.param(lambda: network(nn.Embedding(5, 4, scale_grad_by_freq=True)), tokens,
                 r"scale_grad_by_freq=True in 0", id="frequency-scaling"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "inputs", "message"), REFUSED)
def test_refuses_and_names_the_module(build, inputs, message):
    torch.manual_seed(0)
    model, x = build(), inputs()
    model(x)  # lazy layers take their shape
    probes = analyze.ProbeSet(x, torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match=message) as caught:
        analyze.measure(model, probes, device="cpu")
    assert caught.value.fix


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_refuses_torchscript():
    probes = analyze.ProbeSet(vectors(), torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match=r"TorchScript[\s\S]*inner"):
        analyze.measure(Scripted(), probes, device="cpu")


class Earlier(nn.Linear):
    """Computes with a tensor that it made from its weight when it was built."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.view_of_weight = self.weight.view(-1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.view_of_weight.sum()


def test_refuses_what_was_computed_from_parameters_earlier():
    model = Earlier()
    probes = analyze.ProbeSet(vectors(), torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match="view_of_weight has a graph"):
        analyze.measure(model, probes, device="cpu")


class _Scaled(torch.autograd.Function):
    """A backward pass that depends on the number of examples, as torch's own has at times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, wrong: Callable[[int], bool]) -> Tensor:
        ctx.wrong = wrong
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy * (1.001 if ctx.wrong(len(dy)) else 1.0), None


class WrongFor(nn.Module):
    """Right outputs, and gradients that are wrong for some numbers of examples."""

    def __init__(self, wrong: Callable[[int], bool]) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        return self.head(_Scaled.apply(self.first(x), self.wrong))


def only_alone(count: int) -> bool:
    return count == 1


def beside_others(count: int) -> bool:
    return count > 1


@pytest.mark.parametrize("method", ["by rule", "one at a time"])
def test_a_backward_pass_that_is_wrong_for_a_batch_of_one_is_no_judge(method, monkeypatch):
    """Finite differences side with the example beside itself, and so the numbers are right."""
    if method == "one at a time":
        monkeypatch.setattr(calibration, "meetings", lambda *_: None)
        monkeypatch.setattr(plan, "VMAP", plan.ONE_AT_A_TIME)
        monkeypatch.setattr(calibration, "VMAP", plan.ONE_AT_A_TIME)
    torch.manual_seed(0)
    model, x = WrongFor(only_alone), vectors()
    probes = analyze.ProbeSet(x, torch.arange(EXAMPLES) % 3)
    tree = analyze.measure(model, probes, device="cpu", precision="float64")
    right = WrongFor(lambda count: False)
    right.load_state_dict(model.state_dict())
    expected = oracle.statistics(right, x, torch.arange(EXAMPLES) % 3, [0] * EXAMPLES, 1)
    found = tree["parameters"].to_dataset().isel(checkpoint=0)
    for name in ("first.weight", "head.weight"):
        own = found.sel(parameter=name)
        assert (own["method"].item() == "one at a time") == (method == "one at a time")
        norms = own["gradient_sqnorm"].sum().item()
        assert norms == pytest.approx(expected.squared_norms[name][0], rel=1e-9)
    assert "wrong for a batch of one here, by finite differences" in tree.attrs["provenance"]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_no_example_is_measured_alone_where_that_is_wrong(batch_size):
    torch.manual_seed(0)
    model, x, targets = WrongFor(only_alone), vectors(), torch.arange(EXAMPLES) % 3
    right = WrongFor(lambda count: False)
    right.load_state_dict(model.state_dict())
    expected = oracle.statistics(right, x, targets, [0] * EXAMPLES, 1)
    probes = analyze.ProbeSet(x, targets)
    tree = analyze.measure(
        model, probes, device="cpu", precision="float64", folds=1, batch_size=batch_size
    )
    own = tree["parameters"].to_dataset().sel(parameter="first.weight")
    assert own["method"].item() == "linear"
    norms = own["gradient_sqnorm"].sum().item()
    assert norms == pytest.approx(expected.squared_norms["first.weight"][0], rel=1e-9)


def test_refuses_a_backward_pass_that_is_wrong_beside_others():
    """One example at a time could not be the judge of itself: finite differences are."""
    probes = analyze.ProbeSet(vectors(), torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match="another gradient alone") as refusal:
        analyze.measure(WrongFor(beside_others), probes, device="cpu")
    assert "first.weight, first.bias:" in refusal.value.found


class WritesOverItsInput(nn.Module):
    """Changes in place what a layer still needs: no backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.head(x)
        x.add_(1.0)
        return y + x


def test_refuses_what_has_no_backward_pass():
    probes = analyze.ProbeSet(vectors(), torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match="no backward pass") as refusal:
        analyze.measure(WritesOverItsInput(), probes, device="cpu")
    assert "inplace operation" in refusal.value.found


def test_refuses_losses_that_are_not_finite():
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, 10.0)
    x = vectors()
    x[2] = 3e38
    probes = analyze.ProbeSet(x, torch.arange(EXAMPLES) % 3)
    with pytest.raises(analyze.InputError, match="not finite"):
        analyze.measure(model, probes, device="cpu")
