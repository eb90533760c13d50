"""What modules do while torch loads them is done: versions, extra states, names of before."""

from __future__ import annotations

import copy
from collections import OrderedDict
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

import analyze
from analyze.checkpoints.fitting.filling import finish_lazy
from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.reading import read_weights
from analyze.errors import CheckpointError
from analyze.runs.units.configuration import _architecture

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
OLD = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


class Rows(nn.Linear):
    """Version 1 kept its rows in reverse order."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if (metadata.get("version") or 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].flip(0)
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Scaled(nn.Linear):
    """Computes with what is no tensor."""

    scale = 1.0

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]

    def forward(self, x):
        return self.scale * super().forward(x)


class Prehook(nn.Linear):
    """Takes the names of before by a hook."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_load_state_dict_pre_hook(self.renamed)

    @staticmethod
    def renamed(module, state, prefix, *_):
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel").t()


class Kernel(nn.Module):
    """What it was before."""

    def __init__(self):
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(6))

    def forward(self, x):
        return x @ self.kernel + self.bias


class ByData(nn.Linear):
    """Writes where autograd does not look."""

    def _load_from_state_dict(self, state, prefix, *rest):
        for name, tensor in self.named_parameters():
            tensor.data.copy_(2 * state[prefix + name])


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Assigned(nn.Linear):
    """Puts other parameters in its place."""

    def _load_from_state_dict(self, state, prefix, *rest):
        self.weight = nn.Parameter(state[f"{prefix}weight"].clone())
        self.bias = nn.Parameter(state[f"{prefix}bias"].clone())


def scaled() -> nn.Module:
    module = Scaled(8, 6)
    module.scale = 3.0
    return module


def normed(norm, times: int = 3) -> nn.Module:
    """A layer under a norm, after some passes in training."""
    module = norm(nn.Linear(8, 6))
    for _ in range(times):
        module(X)
    return module


def frozen(norm: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (8, 1, 1)), norm(8))


def trained_norm() -> nn.Module:
    module = frozen(nn.BatchNorm2d)
    module(X)
    return module


# What was saved, and what it is loaded into: torch itself loads the second from the first.
LOADED = {
    "a version": (lambda: Rows(8, 6), lambda: Rows(8, 6)),
    "an extra state": (scaled, lambda: Scaled(8, 6)),
    "weight norm of before": (
        lambda: old_weight_norm(nn.Linear(8, 6)),
        lambda: parametrizations.weight_norm(nn.Linear(8, 6)),
    ),
    "weight norm of today": (
        lambda: parametrizations.weight_norm(nn.Linear(8, 6)),
        lambda: parametrizations.weight_norm(nn.Linear(8, 6)),
    ),
    "spectral norm of before": (
        lambda: normed(old_spectral_norm),
        lambda: old_spectral_norm(nn.Linear(8, 6)),
    ),
    "spectral norm of today": (
        lambda: normed(parametrizations.spectral_norm),
        lambda: parametrizations.spectral_norm(nn.Linear(8, 6)),
    ),
    "a frozen batch norm": (trained_norm, lambda: frozen(torchvision.ops.FrozenBatchNorm2d)),
    "lazy": (
        lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6)),
        lambda: nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d()),
    ),
    "by a hook": (Kernel, lambda: Prehook(8, 6)),
    "behind autograd's back": (lambda: Doubled(8, 6), lambda: ByData(8, 6)),
    "other parameters": (lambda: nn.Linear(8, 6), lambda: Assigned(8, 6)),
}
WRAPPED = {"": ("", {}), "module.": ("module.", {}), "_orig_mod.": ("_orig_mod.", {}),
           "renamed": ("old.", {"rename": ["old.net=net"]})}  # fmt: skip


def saved(path: Path, module: nn.Module, prefix: str = "") -> Path:
    """As torch saves a model around the module: the names of the versions follow."""
    outer: nn.Module = nn.ModuleDict({"net": module})
    for part in filter(None, reversed(prefix.split("."))):
        outer = nn.ModuleDict({part: outer})
    torch.save({"state_dict": outer.state_dict()}, path)
    return path


def loaded(path: Path, module: nn.Module, **choices) -> nn.Module:
    model = nn.ModuleDict({"net": module})
    assert _architecture(model)
    fit(model, read_weights(path), "step_1.pt", "net", **choices)
    return model["net"].eval()


@OLD
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("case", LOADED)
def test_a_module_loads_as_torch_loads_it(tmp_path, case, wrapped):
    torch.manual_seed(0)
    before, after = LOADED[case]
    source, (prefix, choices) = before(), WRAPPED[wrapped]
    path = saved(tmp_path / "step_1.pt", source, prefix)
    module = loaded(path, after(), **choices)
    torch.testing.assert_close(module(X), source.eval()(X), rtol=1e-6, atol=1e-6)


def test_a_lazy_model_that_was_loaded_is_measured(tmp_path):
    """Its first pass would take off a hook that the measurement puts back."""
    plain = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    plain(X)
    lazy = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))
    model = loaded(saved(tmp_path / "step_1.pt", plain), lazy)
    finish_lazy(model)
    assert [type(module) for module in model] == [type(module) for module in plain]
    assert model[0].in_features == 8
    probes = analyze.ProbeSet(X, torch.arange(5) % 3, ["clean"] * 5)
    found, expected = (analyze.measure(m, probes, batch_norm="saved") for m in (model, plain))
    torch.testing.assert_close(
        *(torch.from_numpy(t["network"]["m_coherence"].values) for t in (found, expected))
    )


# --- versions that are not there


def without_versions(tmp_path: Path, module: nn.Module, kind: str) -> Path:
    state = {f"net.{key}": tensor for key, tensor in module.state_dict().items()}
    path = tmp_path / f"step_1.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_versions_that_matter_and_are_not_there_are_refused(tmp_path, kind):
    """Torch would turn the rows of today around without a word."""
    path = without_versions(tmp_path, Rows(8, 6), kind)
    with pytest.raises(CheckpointError, match="which version of the model's code") as error:
        loaded(path, Rows(8, 6))
    assert "net.weight" in error.value.found
    assert "torch.save(model.state_dict(), path)" in error.value.fix


@OLD
@pytest.mark.parametrize(
    "case", ["weight norm of before", "spectral norm of today", "a frozen batch norm", "by a hook"]
)
def test_versions_that_do_not_matter_need_not_be_there(tmp_path, case):
    torch.manual_seed(0)
    before, after = LOADED[case]
    source = before()
    module = loaded(without_versions(tmp_path, source, "safetensors"), after())
    torch.testing.assert_close(module(X), source.eval()(X), rtol=1e-6, atol=1e-6)


def test_the_version_that_fits_is_taken(tmp_path):
    """MNASNet's own loading fails without one."""
    torch.manual_seed(0)
    source = torchvision.models.mnasnet0_5(num_classes=3)
    save_file(source.state_dict(), tmp_path / "step_1.safetensors")
    model = torchvision.models.mnasnet0_5(num_classes=3)
    fit(model, read_weights(tmp_path / "step_1.safetensors"), "step_1", "mnasnet0_5")
    assert all(map(torch.equal, model.state_dict().values(), source.state_dict().values()))


HOSTILE = {
    "no dictionary": [1, 2],
    "tensors": {"": {"version": torch.ones(3)}, "net": torch.ones(3)},
    "other keys": {3: {"version": 1}, "net": {4: 5}},
    "deep": {"net": {"a": {"b": {"c": {"d": 1}}}}},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_versions_in_a_file_are_plain_or_none(tmp_path, case):
    state = OrderedDict((f"net.{k}", v) for k, v in nn.Linear(8, 6).state_dict().items())
    state._metadata = HOSTILE[case]
    torch.save(state, tmp_path / "step_1.pt")
    kept = read_weights(tmp_path / "step_1.pt")._metadata
    assert all(type(entry) is dict for entry in kept.values())
    assert "version" not in kept.get("net", {})
    loaded(tmp_path / "step_1.pt", nn.Linear(8, 6))


# --- extra states


def test_an_extra_state_that_is_missing_is_told_and_ignored_on_the_users_word_only(tmp_path):
    path = without_versions(tmp_path, nn.Linear(8, 6), "safetensors")
    with pytest.raises(CheckpointError, match="does not fit") as error:
        loaded(path, Scaled(8, 6))
    assert "1 of them missing: net._extra_state" in error.value.expected
    assert "keep it by torch.save(model.state_dict(), path)" in error.value.fix
    assert "--ignore" not in error.value.fix
    assert loaded(path, Scaled(8, 6), ignore=["net._extra_state"]).scale == 1.0


def test_an_extra_state_without_a_place_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="does not fit") as error:
        loaded(saved(tmp_path / "step_1.pt", scaled()), nn.Linear(8, 6))
    assert "1 of them unknown: net._extra_state" in error.value.found


MISSING = "1 of them missing: net._extra_state"


@pytest.mark.parametrize(("state", "said"), [
    ({"scale": range(5)}, MISSING), ({"scale": {date(2026, 1, 1)}}, MISSING),
    ({date(2026, 1, 1): 1.0, "scale": 1.0}, MISSING), ({"scale": np.ones(2)}, MISSING),
    ({"scale": (slice(2),)}, MISSING), ({}, "KeyError: 'scale'"),
])  # fmt: skip
def test_an_extra_state_that_is_not_what_was_saved_is_refused(tmp_path, state, said):
    """The reader of plain values has something else for a range, a date or an array of numpy."""
    content = {"net._extra_state": state}
    content |= {f"net.{key}": tensor for key, tensor in nn.Linear(8, 6).state_dict().items()}
    torch.save(content, tmp_path / "step_1.pt")
    with pytest.raises(CheckpointError, match="does not fit") as error:
        loaded(tmp_path / "step_1.pt", Scaled(8, 6))
    assert said in f"{error.value.found} {error.value.expected}"


def test_tensors_in_an_extra_state_are_read_and_not_mapped(tmp_path):
    """A file that its trainer writes anew would end the program."""
    module, big = scaled(), torch.arange(50_000.0)
    module.scale = {"table": [big, big], "deep": ({"x": big + 1},)}
    path = saved(tmp_path / "step_1.pt", module)
    found = read_weights(path)["net._extra_state"]["scale"]
    path.write_bytes(b"\0" * path.stat().st_size)  # in place: what is mapped would be zeros
    assert torch.equal(found["table"][0], big)
    assert found["table"][0] is found["table"][1]
    assert torch.equal(found["deep"][0]["x"], big + 1)


def test_an_extra_state_that_is_a_tensor_is_one_in_any_file(tmp_path):
    module = scaled()
    module.get_extra_state = lambda: torch.arange(50_000.0)
    save_file(dict(nn.ModuleDict({"net": module}).state_dict()), tmp_path / "step_1.safetensors")
    saved(tmp_path / "step_1.pt", module)
    for name in ("step_1.pt", "step_1.safetensors"):
        found = read_weights(tmp_path / name)["net._extra_state"]
        (tmp_path / name).write_bytes(b"\0" * (tmp_path / name).stat().st_size)
        assert torch.equal(found, torch.arange(50_000.0))


# --- strictly


class Swallowing(nn.Linear):
    """Loads one of its two parameters, and says nothing."""

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, unexpected, errors):
        state = {key: tensor for key, tensor in state.items() if key.endswith("weight")}
        super()._load_from_state_dict(state, prefix, metadata, strict, [], [], errors)


class Failing(nn.Linear):
    def _load_from_state_dict(self, *_):
        raise KeyError("scale")


class Optional(nn.Module):
    """A module that may be None: torch does not look at what is below."""

    def __init__(self, part=None):
        super().__init__()
        self.main = nn.Linear(8, 6)
        self.register_module("part", part)


STRICT = {
    "a parameter that the loading leaves out": (
        lambda: nn.Linear(8, 6), lambda: Swallowing(8, 6), "1 of them missing: net.bias [6]"),
    "weights below a module that is None": (
        lambda: Optional(nn.Linear(2, 2)), Optional,
        "2 of them unknown: net.part.weight [2, 2], net.part.bias [2]"),
    "an error in the model's code": (
        lambda: nn.Linear(8, 6), lambda: Failing(8, 6),
        "the model's loading says: KeyError: 'scale' (test_loading.py"),
    "a lazy one that is not there": (
        lambda: nn.Linear(8, 6, bias=False), lambda: nn.LazyLinear(6),
        "1 of them missing: net.bias (of any shape)"),
}  # fmt: skip


@pytest.mark.parametrize("case", STRICT)
def test_what_torch_does_not_tell_is_seen(tmp_path, case):
    before, after, said = STRICT[case]
    with pytest.raises(CheckpointError, match="does not fit") as error:
        loaded(saved(tmp_path / "step_1.pt", before()), after())
    assert said in f"{error.value.found} {error.value.expected}"


# --- statistics of batch norm, put back


class Once(nn.Sequential):
    """Takes no state without versions, as MNASNet."""

    def _load_from_state_dict(self, *_):
        raise ValueError("version should be set")


def test_statistics_are_put_back_without_loading_the_model_again():
    torch.manual_seed(0)
    model = Once(nn.Linear(8, 6), nn.BatchNorm1d(6))
    before = copy.deepcopy(model.state_dict())
    inputs, targets = torch.randn(4, 8), torch.tensor([0, 1, 2, 0])
    probes = analyze.ProbeSet(inputs, targets, ["a", "b"] * 2)
    tree = analyze.measure(model, probes, folds=1, batch_norm="saved", device="cpu")
    loss = nn.functional.cross_entropy(model.eval()(inputs), targets).item()
    assert tree["loss"].sel(subset="all").item() == pytest.approx(loss, rel=1e-6)
    assert tree["loss_recomputed"].sel(subset="all").item() != pytest.approx(loss, rel=1e-3)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
