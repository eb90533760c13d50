"""What to type for a checkpoint that does not fit: one thing only, and right once typed in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.fitting.tensor_names import prefixes_of
from analyze.errors import CheckpointError, told_once, unknown
from analyze.models.building import build_model
from analyze.runs.loading import _resized
from analyze.specs.model import ModelSpec

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
OLD = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
OPTION = re.compile(r"--(rename|ignore) ('[^']*'|[^\s);]+)")


def network() -> nn.Module:
    """Layers of one shape and norms: what is which is told by names only."""
    return nn.Sequential(
        nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3)
    )


def layers(norm: Callable[[nn.Module], nn.Module] = lambda module: module) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(8, 6)), nn.ReLU(), norm(nn.Linear(6, 3)))


def passed(model: nn.Module) -> nn.Module:
    model(X)
    return model


def trained(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 0.2)
    return model


def refused(model: nn.Module, weights, **choices) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        fit(model, weights, "step_1.pt", "net", **choices)
    return error.value


def options(fix: str) -> dict[str, list[str]]:
    """As a shell hands them over."""
    found: dict[str, list[str]] = {"rename": [], "ignore": []}
    for option, value in OPTION.findall(fix):
        found[option] += shlex.split(value)
    return found


def names(old: str, new: str):
    return lambda state: {re.sub(old, new, key): tensor for key, tensor in state.items()}


def flax(state):
    leaves = {"weight": "scale", "bias": "offset"}
    return {re.sub(r"^([13])\.(\w+)", lambda m: f"{m[1]}.{leaves[m[2]]}", k): t
            for k, t in state.items()}  # fmt: skip


def old_bert(state):
    leaves = {"weight": "gamma", "bias": "beta"}
    return {re.sub(r"^([13])\.(\w+)", lambda m: f"{m[1]}.{leaves[m[2]]}", k): t
            for k, t in state.items()}  # fmt: skip


def with_(**tensors):
    return lambda state: state | {key.replace("__", "."): t for key, t in tensors.items()}


TRIANGLE = torch.ones(4, 4).tril()[None, None]
# What was trained, what its file is then, and into what it is loaded.
TYPED = {
    "gamma and beta": (network, old_bert, network),
    "scale and offset": (network, flax, network),
    "a later number": (network, names("^4", "9"), network),
    "a head": (network, names("^4", "head"), network),
    "a body": (lambda: nn.Sequential(network(), nn.Linear(3, 2)), names("^0", "encoder.net"),
               lambda: nn.Sequential(network(), nn.Linear(3, 2))),
    "a prefix": (lambda: nn.Sequential(network()), names(r"^0\.", ""),
                 lambda: nn.Sequential(network())),
    "position ids": (network, with_(position_ids=torch.arange(4)), network),
    "masks of GPT-2": (network, with_(**{"0__attn__bias": TRIANGLE, "2__attn__bias": TRIANGLE,
                                         "0__attn__masked_bias": torch.tensor(-1e4)}), network),
    "beside weights": (network, with_(**{"0__inv_freq": TRIANGLE, "1__inv_freq": TRIANGLE}),
                       network),
    "counters of thop": (network, with_(total_ops=TRIANGLE, **{"0__total_ops": TRIANGLE}), network),
    "a loss": (network, with_(**{"loss__a": torch.ones(2), "loss__b": torch.ones(2)}), network),
    "brackets": (network, with_(**{"loss[0]__a": torch.ones(2)}), network),
    "weight norm of today": (lambda: layers(parametrizations.weight_norm), dict,
                             lambda: layers(old_weight_norm)),
    "spectral norm of before": (lambda: passed(layers(old_spectral_norm)), dict,
                                lambda: layers(parametrizations.spectral_norm)),
    "spectral norm of today": (lambda: passed(layers(parametrizations.spectral_norm)), dict,
                               lambda: layers(old_spectral_norm)),
}  # fmt: skip


@OLD
@pytest.mark.parametrize("case", TYPED)
def test_a_hint_that_is_typed_in_gives_the_numbers_of_the_trained_model(case):
    torch.manual_seed(0)
    make, change, into = TYPED[case]
    source = trained(make())
    weights = change(dict(source.state_dict()))
    typed = options(refused(into(), weights).fix)
    model = into()
    fit(model, weights, "step_1.pt", "net", **typed)
    torch.testing.assert_close(model.eval()(X), source.eval()(X), rtol=1e-6, atol=1e-6)


# --- what is not unique, or is another function, is not proposed


def alternating() -> nn.Module:
    return nn.Sequential(*(m for _ in range(3) for m in (nn.Linear(8, 8), nn.Tanh())))


UNTOLD = {
    "two layers of one shape": (network, names(r"^([02])\.", r"layer_\1."), network),
    "a shift for a scale": (
        lambda: nn.LayerNorm(8), lambda s: {"bias": s["bias"], "my.shift": s["weight"]},
        lambda: nn.LayerNorm(8)),
    "layers that are counted otherwise": (
        alternating, lambda s: {f"{int(k[0]) // 2}{k[1:]}": t for k, t in s.items()}, alternating),
    "a temperature for a bias": (
        layers, lambda s: {("temperature" if k == "2.bias" else k): t for k, t in s.items()},
        layers),
    "mean and variance": (
        lambda: nn.BatchNorm1d(8), names("running_", "statistics_of_"), lambda: nn.BatchNorm1d(8)),
}  # fmt: skip


@pytest.mark.parametrize("case", UNTOLD)
def test_what_cannot_be_told_apart_is_not_proposed(case):
    make, change, into = UNTOLD[case]
    fix = refused(into(), change(dict(make().state_dict()))).fix
    assert "--rename" not in fix
    assert "--ignore" not in fix


def pruned() -> nn.Module:
    def half(module: nn.Module) -> nn.Module:
        return prune.l1_unstructured(module, "weight", 0.5)

    return layers(half)


UTILITIES = {
    "pruned": (pruned, layers, "the checkpoint has 0.weight, 2.weight pruned: apply "
               "torch.nn.utils.prune.identity(module, 'weight') to each module"),
    "not pruned": (layers, pruned, "the model has 0.weight, 2.weight pruned, the checkpoint has"),
    "weight norm": (lambda: layers(old_weight_norm), layers,
                    "torch.nn.utils.parametrizations.weight_norm(module, 'weight') to each module"),
    "no weight norm": (layers, lambda: layers(old_weight_norm),
                       "the model has 0.weight, 2.weight split by weight norm"),
    "parametrized": (lambda: layers(parametrizations.weight_norm), layers,
                     "remove_parametrizations(module, 'weight') before saving"),
    "not parametrized": (layers, lambda: layers(parametrizations.spectral_norm),
                         "the model has 0.weight, 2.weight parametrized"),
    "spectral norm": (lambda: layers(old_spectral_norm), layers,
                      "torch.nn.utils.spectral_norm(module, 'weight') to each module"),
}  # fmt: skip


@OLD
@pytest.mark.parametrize("case", UTILITIES)
def test_weights_that_a_utility_of_torch_took_apart(case):
    """A part of such a weight has its shape, and is never proposed in its place."""
    make, into, said = UTILITIES[case]
    fix = refused(into(), make().state_dict()).fix
    assert said in fix
    assert "--rename" not in fix


def test_a_pruned_checkpoint_fits_the_pruned_model():
    source, model = pruned(), layers()
    for module in (model[0], model[2]):
        prune.identity(module, "weight")
    fit(model, source.state_dict(), "step_1.pt", "net")
    torch.testing.assert_close(model(X), source(X), rtol=0, atol=0)


# --- several parts that fit

PAIRS = [("encoder_q", "encoder_k"), ("model", "ema_model"), ("student", "teacher"),
         ("module.online", "module.target"), ("a.b", "a.c")]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_two_parts_that_fit_are_refused_and_each_can_be_chosen(pair, turned):
    sources = {part: trained(network()) for part in pair}
    order = reversed(pair) if turned else pair
    weights = {f"{part}.{k}": t for part in order for k, t in sources[part].state_dict().items()}
    weights |= {"module.queue": torch.ones(2, 4)}
    error = refused(network(), weights)
    assert error.what == "several parts of the checkpoint fit the model"
    assert error.found == (
        f"the names of net below {sorted(pair)[0]}. and below {sorted(pair)[1]}. in step_1.pt"
    )
    ways = dict(way.removeprefix("for ").split(": ", 1) for way in error.fix.split("; "))
    assert set(ways) == set(pair)
    for part, way in ways.items():
        model = network()
        assert fit(model, weights, "step_1.pt", "net", **options(way)) == f"{part}."
        torch.testing.assert_close(model(X), sources[part](X), rtol=0, atol=0)


def test_names_as_they_are_go_before_those_below_a_prefix():
    source = trained(network())
    weights = source.state_dict() | {f"ema.{k}": t + 1 for k, t in source.state_dict().items()}
    typed = options(refused(network(), weights).fix)
    assert typed == {"rename": [], "ignore": ["ema.*"]}
    model = network()
    assert fit(model, weights, "step_1.pt", "net", **typed) == ""
    torch.testing.assert_close(model(X), source(X), rtol=0, atol=0)


def test_prefixes_do_not_depend_on_the_order_of_a_set():
    """Hash seeds differ between processes; forty names in forty orders do not agree by chance."""
    for k in range(40):
        parts = [f"part_{(17 * j + k) % 40:02d}." for j in range(40)]
        weights = [f"{part}{name}" for part in parts for name in ("weight", "bias")]
        assert prefixes_of(weights, {"weight", "bias"}) == (sorted(parts), 2)


# --- another number of classes

SPECS = {
    "builtin:small_mlp?in_features=12": "builtin:small_mlp?in_features=12&num_classes=7",
    "builtin:small_mlp?num_classes=3&width=5": "builtin:small_mlp?num_classes=7&width=5",
    "torchvision:squeezenet1_1": "torchvision:squeezenet1_1?num_classes=7",
}  # fmt: skip


@pytest.mark.parametrize("text", SPECS)
def test_another_number_of_classes_is_told_with_the_spec_that_fits(text):
    spec, right = ModelSpec.parse(text), ModelSpec.parse(SPECS[text])
    weights = build_model(right).state_dict()
    error = refused(build_model(spec), weights, resized=partial(_resized, spec))
    assert f"--model '{SPECS[text]}'" in error.fix
    fit(build_model(right), weights, "step_1.pt", SPECS[text])


def test_another_width_is_no_number_of_classes():
    spec = ModelSpec.parse("builtin:small_mlp?in_features=12&num_classes=3&width=5")
    weights = build_model(ModelSpec.parse(spec.text.replace("width=5", "width=6"))).state_dict()
    error = refused(build_model(spec), weights, resized=partial(_resized, spec))
    assert error.fix == "give the model that was trained: --model SPEC"


def test_two_tensors_do_not_get_one_name():
    """The rule would be passed over, and the weights stay in the wrong layers."""
    state = alternating().state_dict()
    error = refused(alternating(), state, rename=["0=2"])
    assert error.what == "a renaming gives two tensors one name"
    assert "0.weight and 2.weight" in error.found
    fit(alternating(), state, "step_1.pt", "net", rename=["0=2", "2=0"])
    fit(alternating(), {**state, "old.weight": torch.zeros(3)}, "step_1.pt", "net",
        rename=["old=2"], ignore=["old.*"])  # fmt: skip


def test_buffers_of_modules_that_the_model_does_not_have_are_no_hint():
    stem = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 1), "norm": nn.BatchNorm2d(2)})
    foreign = nn.ModuleDict({"stem": stem, "head": nn.Linear(2, 1)})
    saved = foreign.state_dict()
    assert "--ignore" not in refused(network(), saved).fix


def test_names_like_the_unknown_one_come_first_in_any_case():
    error = unknown("no such model", "'ResNet'", ["alexnet", "resnet", "vgg"], "--model resnet")
    assert error.expected.startswith("one of resnet, ")
    assert error.expected.endswith("vgg")


def test_reasons_that_differ_by_a_name_only_are_told_once():
    reasons = {"a.pt": "no a.pt in x", "b.pt": "no b.pt in x", "c.pt": "damaged"}
    assert told_once(reasons) == {
        "a.pt": ("no a.pt in x", "the same for 1 further checkpoint: b.pt"),
        "c.pt": ("damaged", ""),
    }
