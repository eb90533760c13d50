"""Transforms and gradients inside of ``forward``, and models that allow none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import analyze
from tests.small_models import Small, assert_measures, built, measured


class _ForOne(Small):
    """Written for one example."""

    def one(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)) * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(self.one)(x)


class _Ensemble(nn.Module):
    """Members as an axis of the weights, and a head that is used as any other."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.Parameter(torch.randn(3, 4, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.vmap(lambda weight: torch.tanh(x @ weight))(self.members).mean(0))


class _Tangent(Small):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.jvp(super().forward, (x,), (torch.ones_like(x),))[1] * self.scale.sum()


class _Slope(Small):
    def forward(self, x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda z: (torch.tanh(self.first(z)) * self.scale).sum())(x)
        return self.head(torch.cat([slope, x[:, :1]], 1))


class _Force(Small):
    """Needs gradients in forward without asking for them, as training has them anyway."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = (torch.tanh(self.first(x)) * self.scale).sum()
        force = torch.autograd.grad(energy, x, create_graph=True)[0]
        return self.head(torch.cat([force, x[:, :1]], 1))


class _NormalisedForce(Small):
    """Through a batch norm, whose rule gives its input's gradient with those of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = (torch.tanh(self.norm(self.first(x))) * self.scale).sum()
        force = torch.autograd.grad(energy, x, create_graph=True)[0]
        return self.head(torch.cat([force, x[:, :1]], 1))


class _Curvature(Small):
    """Gradients of gradients, as networks that solve differential equations take them."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        value = super().forward(x)
        slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        return value + torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)[0][:, :3]


@pytest.mark.filterwarnings("ignore:`torch.jit")  # which torch.func.jvp imports
@pytest.mark.parametrize(
    "build", [_ForOne, _Ensemble, _Tangent, _Slope, _Force, _NormalisedForce, _Curvature]
)
def test_transforms_and_gradients_inside_of_forward(build):
    assert_measures(build)


def test_only_what_is_differentiated_inside_is_measured_one_at_a_time():
    parameters = measured(built(_Force))["parameters"].to_dataset()
    methods = dict(zip(parameters.parameter.values, parameters.method.values, strict=True))
    assert methods["head.weight"] == "linear"
    assert methods["first.weight"] == "one at a time"


class _Members(nn.Module):
    """An ensemble as torch's own tutorial builds it: stacked weights and a form without values."""

    def __init__(self) -> None:
        super().__init__()
        members = [nn.Linear(4, 3) for _ in range(3)]
        stacked, _ = torch.func.stack_module_state(members)
        self.stacked = nn.ParameterDict({k: nn.Parameter(v.detach()) for k, v in stacked.items()})
        form = nn.Linear(4, 3).to("meta")
        self.one = lambda weights, x: torch.func.functional_call(form, weights, (x,))

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.vmap(self.one, in_dims=(0, None))(dict(self.stacked), x)
        return torch.tanh(outputs).mean(0)


def test_an_ensemble_of_stacked_members():
    assert_measures(_Members)


def test_parameters_without_values_are_refused_by_name():
    model = _Members()
    model.form = nn.Linear(4, 3, device="meta")
    with pytest.raises(analyze.InputError, match=r"form\.weight, form\.bias on the meta device"):
        measured(model)


class _WithoutGraph(Small):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class _ForceInTraining(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        energy = super().forward(x).sum()
        return torch.autograd.grad(energy, x, create_graph=self.training)[0][:, :3]


class _ReadsByNumpy(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(self.scale.numpy().sum())


@pytest.mark.parametrize(
    ("build", "message", "fix"),
    [(_WithoutGraph, "output has no gradient", "no_grad"),
     (_ForceInTraining, "output has no gradient", "create_graph=True"),
     (_ReadsByNumpy, "with gradients on, its forward pass fails", "numpy")],
)  # fmt: skip
def test_a_forward_without_gradients_is_refused(build, message, fix):
    with pytest.raises(analyze.InputError, match=message) as caught:
        measured(built(build))
    assert fix in caught.value.fix
