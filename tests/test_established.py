"""What an earlier call established is taken over by one on a model like it, and proven again."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients import established
from analyze.gradients.established import ESTABLISHED, Established, fingerprint
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.planner import Planner
from analyze.gradients.workload import Workload

PROBES = 12
SWITCH = ["as it was"]  # a list: what it holds is no part of the fingerprint
SCALE = 1.0


class Switched(nn.Module):
    """Does something else where a list outside of it says so."""

    def __init__(self, width: int = 5, rate: float = 0.1) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, width)
        self.drop, self.head = nn.Dropout(rate), nn.Linear(width, 3)
        self.mode, self.factors = "plain", [1.0, 2.0]
        self.kind, self.activation, self.part = torch.float32, torch.relu, slice(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) * SCALE
        match SWITCH[0]:
            case "another function":
                x = x.tanh()
            case "another layer":
                x = self.second(x)
            case "a layer twice":
                x = self.second(self.second(x))
            case "another order":
                x = x.view(len(x), 1, -1).transpose(0, 1)[0]
            case "mixes examples":
                x = x - x.mean(0)
            case "mixes by a hair":
                x = x + 1e-4 * x.sum(0)
            case "noise":
                x = x + 0.1 * torch.rand_like(x)
            case "no gradient":
                x = x.detach()
            case "no numbers":
                x = x / 0
        x = self.head(self.drop(x))
        return x.softmax(1) if SWITCH[0] == "probabilities" else x


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    SWITCH[0] = "as it was"


def vectors(count: int = PROBES) -> analyze.ProbeSet:
    torch.manual_seed(1)
    return analyze.ProbeSet(torch.randn(count, 4), torch.arange(count) % 3)


def model(**options) -> Switched:
    torch.manual_seed(0)
    return Switched(**options)


def taken_over(monkeypatch) -> list[bool]:
    """Whether each call from now on took a plan over."""
    calls: list[bool] = []
    take = Planner.taken_over

    def watched(*arguments):
        calls.append(False)
        ready = take(*arguments)
        calls[-1] = ready is not None
        return ready

    monkeypatch.setattr(Planner, "taken_over", watched)
    return calls


def outcome(switched: nn.Module) -> tuple[str, np.ndarray]:
    """What a measurement is refused for, or how and what it measured."""
    try:
        tree = analyze.measure(switched, vectors(), precision="float64", batch_size=4)
    except analyze.InputError as error:
        return str(error), np.zeros(0)
    parameters = tree["parameters"].to_dataset()
    names = ("gradient_gram", "gradient_sqnorm")
    numbers = np.concatenate([parameters[name].values.ravel() for name in names])
    return ", ".join(parameters["method"].values), numbers


def test_a_second_call_takes_the_plan_over_and_gives_the_same_bits(monkeypatch):
    calls = taken_over(monkeypatch)
    first, second = (
        analyze.measure(model(), vectors(), batch_size=4)["parameters"].to_dataset()
        for _ in range(2)
    )
    assert calls == [True]
    for name in ("gradient_gram", "gradient_sqnorm"):
        np.testing.assert_array_equal(first[name].values, second[name].values)


def test_it_is_proven_again_on_the_weights_of_now(monkeypatch):
    analyze.measure(model(), vectors(), batch_size=4)
    calls, other = taken_over(monkeypatch), model()
    nn.init.zeros_(other.head.weight)  # nothing reaches the first layer
    tree = analyze.measure(other, vectors(), batch_size=4)
    assert calls == [True]
    proof = json.loads(tree.attrs["provenance"])["proof"]
    assert proof["examples"] == 2
    assert {*proof["relative_errors"]} == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "switch",
    ["another function", "another layer", "a layer twice", "another order", "mixes examples",
     "mixes by a hair", "noise", "no gradient", "no numbers"],
)  # fmt: skip
def test_a_plan_that_is_stale_gives_no_wrong_number(switch, monkeypatch):
    SWITCH[0] = switch
    afresh = outcome(model())
    SWITCH[0] = "as it was"
    ESTABLISHED.forget()
    outcome(model())
    calls = taken_over(monkeypatch)
    SWITCH[0] = switch
    again = outcome(model())
    assert len(calls) == 1, "the switch is seen: this test would show nothing"
    assert again[0] == afresh[0]
    np.testing.assert_allclose(again[1], afresh[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "switches", [("as it was", "probabilities"), ("probabilities", "as it was")]
)
def test_notes_are_those_of_the_probes_of_now(switches, monkeypatch):
    calls, noted = taken_over(monkeypatch), []
    for SWITCH[0] in switches:
        tree = analyze.measure(model(), vectors(), batch_size=4)
        noted.append("probabilities" in str(json.loads(tree.attrs["provenance"])["warnings"]))
    assert calls == [True]
    assert noted == [switch == "probabilities" for switch in switches]


class Casting(nn.Module):
    """Computes in a kind of numbers that a list outside of it names."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.to(KIND[0]).to(x.dtype))


KIND = [torch.float32]


@pytest.mark.parametrize(
    "kinds", [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)]
)
def test_casts_that_are_undone_are_noted_of_the_model_of_now(kinds, monkeypatch):
    calls, noted = taken_over(monkeypatch), []
    for KIND[0] in kinds:
        tree = analyze.measure(Casting(), vectors(), batch_size=4)
        noted.append("casts to bfloat16" in str(json.loads(tree.attrs["provenance"])["warnings"]))
    assert calls == [True]
    assert noted == [kind is torch.bfloat16 for kind in kinds]


def key(made: nn.Module, probes: analyze.ProbeSet | None = None, loss="cross_entropy", **settings):
    workload = Workload(probes or vectors(), build_loss(loss), Settings(**settings))
    return fingerprint(made, workload, torch.device("cpu"), 1)


def frozen(made: nn.Module) -> None:
    made.first.weight.requires_grad_(False)


def hooked(made: nn.Module) -> None:
    made.first.register_forward_hook(lambda *_: None)


def hooked_weight(made: nn.Module) -> None:
    made.first.weight.register_hook(lambda gradient: 2 * gradient)


def replaced(made: nn.Module) -> None:
    made.forward = lambda x: made.head(made.first(x))


def tied(made: nn.Module) -> None:
    made.second.bias = made.first.bias


CHANGES = {
    "an attribute": lambda made: setattr(made, "mode", "other"),
    "an entry of an attribute": lambda made: made.factors.append(3.0),
    "a kind of numbers that it names": lambda made: setattr(made, "kind", torch.bfloat16),
    "a function of torch": lambda made: setattr(made, "activation", torch.square),
    "a slice": lambda made: setattr(made, "part", slice(1, 3)),
    "an option of a layer": lambda made: setattr(made.drop, "p", 0.2),
    "an activation": lambda made: setattr(made, "drop", nn.Identity()),
    "requires_grad": frozen,
    "a hook": hooked,
    "a hook of a weight": hooked_weight,
    "another forward": replaced,
    "a tied weight": tied,
    "a shape": lambda made: setattr(made, "second", nn.Linear(5, 5, bias=False)),
    "a kind of numbers": lambda made: made.double(),
    "a buffer": lambda made: made.register_buffer("extra", torch.zeros(2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_looks_otherwise_is_another(change):
    made, other = model(), model()
    assert key(made) == key(other)
    CHANGES[change](other)
    assert key(made) != key(other)


def test_weights_and_mode_are_no_part_of_what_a_model_looks_like():
    made = model()
    before = key(made)
    nn.init.zeros_(made.head.weight)
    assert key(made.eval()) == before
    assert key(copy.deepcopy(made)) == before


def test_a_plain_global_is_part_of_it(monkeypatch):
    before = key(model())
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert key(model()) != before


def test_probes_loss_settings_and_threads_are_part_of_it():
    made = model()
    keys = [
        key(made),
        key(made, vectors(PROBES + 1)),
        key(made, loss="cross_entropy?label_smoothing=0.1"),
        key(made, batch_size=4),
        key(made, precision="float64"),
    ]
    workload = Workload(vectors(), build_loss("cross_entropy"), Settings())
    keys.append(fingerprint(made, workload, torch.device("cpu"), 2))
    assert len(set(keys)) == len(keys)


def test_a_loss_of_the_users_own_is_never_known(tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch.nn.functional import cross_entropy\n\n\n"
        "def own(output, target):\n    return cross_entropy(output, target, reduction='none')\n"
    )
    assert key(model(), loss=f"{tmp_path}/own.py:own") is None


def test_only_the_plans_that_were_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(established, "MOST", 2)
    kept = Established()
    analyze.measure(model(), vectors(), batch_size=4)
    state = ESTABLISHED.of(key(model(), batch_size=4))
    assert state is not None
    for name in "ab":
        kept.keep(name, state)
    kept.of("a")
    kept.keep("c", state)
    assert [name for name in "abc" if kept.of(name)] == ["a", "c"]
