"""How a checkpoint is fitted to a model: all of it, or not at all."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from analyze.checkpoints.fitting import fit
from analyze.errors import CheckpointError


class Net(nn.Module):
    """A norm with a counter, and a tied pair of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 3)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.full((2,), -math.inf))


def trained() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {k: v.clone() for k, v in Net().state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and name != "mask":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    state["head.weight"] = state["embed.weight"]
    return state


def fitted(weights) -> tuple[str, dict[str, torch.Tensor]]:
    model = Net()
    prefix = fit(model, weights, "step_1.pt", "net.py:Net")
    return prefix, model.state_dict()


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in b if not k.endswith("num_batches_tracked"))


PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "net.", "a.b.c."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_prefix_of_a_wrapper_is_taken_off(prefix):
    found, state = fitted({prefix + k: v for k, v in trained().items()})
    assert found == prefix
    assert same(state, trained())


def test_the_counter_of_averaged_weights_is_no_weight():
    weights = {f"module.{k}": v for k, v in trained().items()} | {"n_averaged": torch.tensor(4)}
    assert same(fitted(weights)[1], trained())


@pytest.mark.parametrize("left_out", ["norm.num_batches_tracked", "head.weight", "embed.weight"])
def test_a_counter_or_a_tied_weight_may_be_missing(left_out):
    weights = trained()
    del weights[left_out]
    assert same(fitted(weights)[1], trained())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(dtype):
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained().items()}
    state = fitted(weights)[1]
    assert state["embed.weight"].dtype == torch.float32
    assert torch.equal(state["embed.weight"], weights["embed.weight"].float())


def misfit(**changes):
    weights = trained()
    for name, value in changes.items():
        if value is None:
            del weights[name.replace("__", ".")]
        else:
            weights[name.replace("__", ".")] = value
    return weights


MISFITS = {
    "missing": (
        misfit(head__bias=None, norm__weight=None),
        "7 tensors in step_1.pt",
        "9 tensors of net.py:Net, 2 of them missing: norm.weight [3], head.bias [3]",
    ),
    "both tied": (
        misfit(head__weight=None, embed__weight=None),
        "7 tensors in step_1.pt",
        "9 tensors of net.py:Net, 2 of them missing: embed.weight [3, 3], head.weight [3, 3]",
    ),
    "unknown": (
        misfit(ema__bias=torch.ones(4), other=torch.ones(())),
        "11 tensors in step_1.pt, 2 of them unknown: ema.bias [4], other []",
        "9 tensors of net.py:Net",
    ),
    "shape": (
        misfit(head__bias=torch.ones(4), norm__bias=torch.ones(1, 3)),
        "9 tensors in step_1.pt, 2 of another shape: norm.bias [1, 3], head.bias [4]",
        "9 tensors of net.py:Net, where they are norm.bias [3], head.bias [3]",
    ),
    "renamed": (
        misfit(head__bias=None, head_bias=torch.ones(3)),
        "9 tensors in step_1.pt, 1 of them unknown: head_bias [3]",
        "9 tensors of net.py:Net, 1 of them missing: head.bias [3]",
    ),
    "with and without a prefix": (
        {f"module.{k}": v for k, v in trained().items()} | {"head.bias": torch.ones(3)},
        "10 tensors in step_1.pt, 1 of them unknown: module.head.bias [3]",
        "9 tensors of net.py:Net",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_checkpoint_that_does_not_fit_is_refused_whole(case):
    weights, found, expected = MISFITS[case]
    model = Net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        fit(model, weights, "step_1.pt", "net.py:Net")
    assert (error.value.found, error.value.expected) == (found, expected)
    assert error.value.fix.startswith("give the model that was trained: --model SPEC")
    assert ("head_bias for head.bias" in error.value.fix) == (case == "renamed")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


ODD = {
    "head.bias (torch.int8)": torch.ones(3, dtype=torch.int8),
    "head.bias (torch.complex64)": torch.ones(3, dtype=torch.complex64),
    "head.bias (without values)": torch.ones(3, device="meta"),
    "head.bias (sparse)": torch.ones(3).to_sparse(),
}


@pytest.mark.parametrize("what", ODD)
def test_tensors_that_are_no_weights_are_refused(what):
    with pytest.raises(CheckpointError, match="not plain weights") as error:
        fitted(misfit(head__bias=ODD[what]))
    assert error.value.found == f"{what} in step_1.pt"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["head.bias", "norm.running_var"])
def test_values_that_are_not_finite_are_refused(name, value):
    weights = trained()
    weights[name][0] = value
    with pytest.raises(CheckpointError, match=re.escape(f"NaN or infinity in {name} in step_1")):
        fitted(weights)


def test_a_mask_of_minus_infinity_is_as_the_model_has_it():
    assert torch.isinf(fitted(trained())[1]["mask"]).all()
