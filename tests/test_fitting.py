"""How a checkpoint is fitted to a model: all of it, or not at all."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from analyze.checkpoints.fitting.fit import fit
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


def two_bodies(seed: int = 0) -> nn.Module:
    """Everything below one module, with a buffer of the same name twice, as built."""
    torch.manual_seed(seed)
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    for layer in model.body:
        layer.register_buffer("mask", torch.ones(2))
    return model


def plain() -> dict[str, torch.Tensor]:
    return two_bodies().state_dict()


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
    with pytest.raises(CheckpointError) as error:
        fit(model, weights, "step_1.pt", "net.py:Net")
    assert (error.value.found, error.value.expected) == (found, expected)
    assert error.value.fix.startswith("give the model that was trained: --model SPEC")
    assert ("head_bias for head.bias" in error.value.fix) == (case == "renamed")


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


# --- names that the user changes, and what may be left out


def adapted(weights, **choices) -> dict[str, torch.Tensor]:
    model = Net()
    fit(model, weights, "step_1.pt", "net.py:Net", **choices)
    return model.state_dict()


RENAMED = [
    ("head.", "out.", ["out=head"]),
    ("head.", "out.", ["out.*=head.*"]),
    ("head.", "model.out.", ["model.out=head"]),
    ("norm.", "layers.0.bn.", ["layers.*.bn.*=norm.*"]),
]


@pytest.mark.parametrize(("old", "new", "rules"), RENAMED[:3])
def test_names_can_be_changed(old, new, rules):
    weights = {k.replace(old, new): v for k, v in trained().items()}
    assert same(adapted(weights, rename=rules), trained())
    with pytest.raises(CheckpointError, match="does not fit"):
        adapted(weights)


def test_stars_stand_for_parts_in_their_order():
    weights = {re.sub(r"^(\w+)\.(\w+)$", r"a.\2.of.\1", k): v for k, v in trained().items()}
    assert "a.weight.of.head" in weights
    plain = adapted({k: v for k, v in weights.items() if k != "mask"} | {"mask": trained()["mask"]},
                    rename=[f"a.*.of.{m}={m}.*" for m in ("embed", "norm", "head")])  # fmt: skip
    assert same(plain, trained())


def test_a_renaming_that_would_hide_a_tensor_is_refused():
    weights = trained() | {"other.bias": torch.ones(3)}
    with pytest.raises(CheckpointError, match="gives two tensors one name") as error:
        adapted(weights, rename=["other=head"])
    assert "other.bias and head.bias" in error.value.found


def test_a_prefix_and_a_renaming():
    weights = {f"module.{k.replace('head.', 'out.')}": v for k, v in trained().items()}
    for rule in ("out=head", "module.out=module.head"):
        assert same(adapted(weights, rename=[rule]), trained())


def test_options_that_match_nothing_are_named_where_the_fit_fails():
    with pytest.raises(CheckpointError, match="does not fit") as error:
        adapted({"other": torch.ones(2)}, rename=["heda=fc", "other=another"], ignore=["los.*"])
    assert "no name that --rename heda=fc, --ignore 'los.*' matches" in error.value.found


def test_a_buffer_may_be_ignored():
    weights = trained()
    del weights["mask"]
    with pytest.raises(CheckpointError, match="does not fit") as error:
        adapted(weights)
    assert "--ignore 'mask'" in error.value.fix
    assert same(adapted(weights, ignore=["mask"]), trained())
    weights["mask"] = torch.zeros(7)
    assert same(adapted(weights, ignore=["ma*"]), trained())


def test_a_tensor_without_a_place_may_be_ignored():
    weights = trained() | {"criterion.weight": torch.ones(3)}
    assert same(adapted(weights, ignore=["criterion.*"]), trained())


@pytest.mark.parametrize("name", ["head.bias", "norm.weight", "norm.running_var"])
@pytest.mark.parametrize("how", ["missing", "misshapen"])
def test_a_parameter_or_a_learned_statistic_is_never_ignored(name, how):
    weights = trained()
    if how == "missing":
        del weights[name]
    else:
        weights[name] = torch.ones(9)
    with pytest.raises(CheckpointError, match="does not fit"):
        adapted(weights, ignore=["*"])


def test_ignoring_takes_nothing_away_that_fits():
    assert same(adapted(trained(), ignore=["*"]), trained())


HINTS = {
    "a prefix": ({k.removeprefix("body."): v for k, v in plain().items()}, "--rename '*=body.*'"),
    "buffers": ({k: v for k, v in plain().items() if not k.endswith("mask")}, "--ignore '*.mask'"),
    "of a loss": (
        plain() | {"loss.a": torch.ones(2), "loss.b": torch.ones(2)},
        "--ignore 'loss.*'",
    ),
}


@pytest.mark.parametrize("case", HINTS)
def test_what_to_type_is_said_and_helps(case):
    weights, hint = HINTS[case]
    with pytest.raises(CheckpointError, match="does not fit") as error:
        fit(two_bodies(), weights, "step_1.pt", "net")
    assert hint in error.value.fix
    option, value = hint.replace("'", "").split()
    model = two_bodies(seed=9)
    fit(model, weights, "step_1.pt", "net", **{option.removeprefix("--"): [value]})
    assert all(torch.equal(v, plain()[k]) for k, v in model.state_dict().items())


def test_what_never_helps_is_not_said():
    """A statistic of a norm cannot be ignored, nor should layers that the model has not."""
    statistics = {k: v for k, v in plain().items() if "running_mean" not in k}
    deeper = plain() | {"body.2.weight": torch.ones(3, 3)}
    for weights in (statistics, deeper):
        with pytest.raises(CheckpointError, match="does not fit") as error:
            fit(two_bodies(), weights, "step_1.pt", "net")
        assert error.value.fix == "give the model that was trained: --model SPEC"


def test_the_closest_name_is_one_of_the_same_shape():
    weights = {k.replace("body.0.weight", "body.0.bias_"): v for k, v in plain().items()}
    del weights["body.0.bias"]
    with pytest.raises(CheckpointError, match="does not fit") as error:
        fit(two_bodies(), weights, "step_1.pt", "net")
    assert "--rename body.0.bias_=body.0.weight" in error.value.fix


def test_two_values_for_one_parameter_are_refused():
    weights = trained()
    weights["head.weight"] = weights["head.weight"] + 1
    with pytest.raises(CheckpointError, match="two values for one parameter") as error:
        adapted(weights)
    assert "embed.weight and head.weight differ" in error.value.found


def test_tied_weights_as_safetensors_saves_them(tmp_path):
    from safetensors.torch import load_file, save_model

    model = Net()
    model.load_state_dict(trained())
    save_model(model, str(tmp_path / "model.safetensors"))
    weights = load_file(tmp_path / "model.safetensors")
    assert len(weights) == len(trained()) - 1
    assert same(adapted(weights), trained())
