"""What a forward pass keeps on the model, its hooks or elsewhere is forgotten before the next."""

from __future__ import annotations

import functools
import types

import pytest
import torch
from torch import Tensor

import analyze
from tests.small_models import Small, assert_measures, built, measured


class _Keeps(Small):
    """Keeps what it computed from a parameter where ``place`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.nested: dict[str, dict[str, Tensor]] = {"of": {}}
        self.state = types.SimpleNamespace()

    def forward(self, x: Tensor) -> Tensor:
        if not self.nested["of"]:
            self.nested["of"]["scale"] = self.scale * 2
        if not hasattr(self.state, "shift"):
            self.state.shift = self.scale.exp()
        return self.head(self.first(x) * self.nested["of"]["scale"] + self.state.shift)


class _KeepsNothing(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * (self.scale * 2) + self.scale.exp())


def keeps_in_a_closure():
    model, kept, shift = Small(), {}, None

    def forward(x):
        nonlocal shift
        if shift is None:
            kept["scale"], shift = model.scale * 2, model.scale.exp()
        return model.head(model.first(x) * kept["scale"] + shift)

    model.forward = forward
    return model


@pytest.mark.parametrize("build", [_Keeps, keeps_in_a_closure])
def test_what_a_pass_keeps_is_forgotten(build):
    assert_measures(build, alike=_KeepsNothing)


class _InstallsHooks(Small):
    """At the first pass, and remembers that in an attribute, as transformers 5 does."""

    installed = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.installed:
            self.first.register_forward_hook(lambda module, args, output: output * self.scale)
            self.register_buffer("shift", torch.ones(5).to(x), persistent=False)
            self.installed = True
        return self.head(self.first(x) + self.shift)


class _Counts(Small):
    """Warms up: its first pass has another factor than the second."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.head(self.first(x) * self.scale / self.passes)


class _CountsNothing(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * self.scale)


def test_hooks_are_set_back_with_the_attributes_that_remember_them():
    assert_measures(_InstallsHooks)


def test_buffers_that_passes_change_are_set_back():
    assert_measures(_Counts, alike=_CountsNothing)


class _KeepsForAll(Small):
    @functools.lru_cache  # noqa: B019
    def doubled(self) -> Tensor:
        return self.scale * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) * self.doubled())


def test_what_is_kept_outside_of_the_modules_is_refused_by_name():
    with pytest.raises(analyze.InputError, match="computed from scale in an earlier pass"):
        measured(built(_KeepsForAll))


@pytest.mark.parametrize("build", [_Keeps, _InstallsHooks, _Counts, keeps_in_a_closure])
def test_the_model_keeps_nothing_of_being_measured(build):
    model = built(build)
    model.train()
    model.head.eval()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    measured(model)
    assert model.training
    assert not model.head.training
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks
    assert model.state_dict().keys() == values.keys()
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    if isinstance(model, _Keeps):
        assert not model.nested["of"]
        assert not vars(model.state)
