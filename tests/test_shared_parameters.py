"""Parameters that are frozen, of several names, merged, or that have hooks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests import oracle
from tests.agreement import assert_agrees
from tests.small_models import EXAMPLES, Small, assert_measures, built, examples, measured


class _Frozen(Small):
    """Three frozen parameters: one counts passes, one is read by NumPy, one is a layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.factor = nn.Parameter(torch.tensor(3.0), requires_grad=False)
        self.order = nn.Parameter(torch.arange(5).flip(0), requires_grad=False)
        self.first.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        value = self.first(x)[:, self.order] * self.scale * float(self.factor.numpy())
        return self.head(value / self.count)


class _NotFrozen(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).flip(1) * self.scale * 3.0)


def test_frozen_parameters_count_unless_forward_needs_them_frozen():
    model = built(_Frozen)
    tree = measured(model)
    expected = oracle.statistics(built(_NotFrozen), *examples(), [0] * EXAMPLES, 1)
    assert_agrees(tree, expected)
    assert "left out, as they are frozen" in tree.attrs["provenance"]
    assert float(model.count) == 0.0


class _Shared(nn.Module):
    """One block under three names, and parameters that only vmap measures."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.blocks = nn.ModuleList([block] * 3)
        self.scale = nn.Parameter(torch.rand(4))
        self.memory = nn.LSTM(4, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = (x.flip(0) * self.scale).flip(0)
        return self.head(self.memory(x[:, None].flip(0))[0][:, 0].flip(0))


def test_a_module_of_several_names_beside_vmap():
    assert_measures(_Shared)


class _Merges(Small):
    """LoRA that adds its product to the weight in eval mode, and takes it away in training."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(5, 2))
        self.merged = False

    def train(self, mode: bool = True):
        super().train(mode)
        if mode == self.merged:
            self.first.weight.data += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        value = self.first(x) if self.merged else self.first(x) + x @ self.down.T @ self.up.T
        return self.head(torch.tanh(value))


def test_what_is_merged_in_eval_mode_is_measured_so_and_noted():
    model = built(_Merges)
    weight = model.first.weight.detach().clone()
    tree = measured(model)
    twin = built(_Merges)
    assert_agrees(tree, oracle.statistics(twin, *examples(), [0] * EXAMPLES, 1, copied=False))
    assert "measured as eval() leaves them" in tree.attrs["provenance"]
    assert torch.equal(model.first.weight, weight)
    assert not model.merged


def test_hooks_on_parameters_are_noted_and_left_alone():
    model = built(Small)
    model.first.weight.register_hook(lambda gradient: gradient * 2)
    tree = measured(model)
    assert_agrees(tree, oracle.statistics(built(Small), *examples(), [0] * EXAMPLES, 1))
    assert "hooks on parameters" in tree.attrs["provenance"]
    assert model.first.weight._backward_hooks
