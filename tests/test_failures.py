"""What goes wrong in a rule is never measured around without a word."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analyze
from analyze.gradients import planner
from analyze.gradients.engine import Engine
from analyze.gradients.forms import OuterProducts
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.rules import ALONE, RULES
from analyze.gradients.step.failures import AlgorithmFailedError
from analyze.runs.check import check
from tests.agreement import assert_agrees, expected_of, with_probes
from tests.cases import NAMED
from tests.conftest import TinyRun
from tests.test_proof import exchange

SETTINGS = {"precision": "float64", "folds": 2, "batch_norm": "saved", "device": "cpu"}


def warnings_of(tree) -> list[str]:
    return json.loads(tree.attrs["provenance"])["warnings"]


def failing(*arguments):
    raise KeyError("no such argument")


@pytest.mark.parametrize(
    ("name", "function", "told"),
    [
        (
            "conv2d",
            F.conv2d,
            "body.0.weight, body.0.bias: measured by vmap(grad), as the rule conv2d failed: "
            "KeyError: 'no such argument'",
        ),
        (
            "layer-norm",
            F.layer_norm,
            "body.0.weight, body.0.bias: measured by vmap(grad), as the rule layer_norm failed: "
            "KeyError: 'no such argument'",
        ),
    ],
)
@pytest.mark.usefixtures("rules_may_fail")
def test_the_cause_is_among_the_warnings(name, function, told, monkeypatch):
    exchange(monkeypatch, RULES[function], failing)
    model, probes = with_probes(NAMED[name])
    tree = analyze.measure(model, probes, **SETTINGS)
    assert warnings_of(tree) == [told]
    assert_agrees(tree, expected_of(NAMED[name]))


@pytest.mark.usefixtures("rules_may_fail")
def test_a_rule_that_fails_when_it_is_chosen_is_told(monkeypatch):
    monkeypatch.setitem(RULES[F.layer_norm].__dict__, "accepts", failing)
    model, probes = with_probes(NAMED["layer-norm"])
    tree = analyze.measure(model, probes, **SETTINGS)
    assert warnings_of(tree) == [
        "body.0.weight, body.0.bias: not measured by layer_norm: KeyError: 'no such argument'"
    ]
    assert_agrees(tree, expected_of(NAMED["layer-norm"]))


@pytest.mark.usefixtures("rules_may_fail")
def test_what_fails_when_all_uses_are_there_is_told(monkeypatch):
    monkeypatch.setattr("analyze.gradients.step.collector.combined", failing)
    model, probes = with_probes(NAMED["linear"])
    tree = analyze.measure(model, probes, **SETTINGS)
    assert all("the rule linear failed: KeyError" in note for note in warnings_of(tree))
    assert set(tree["parameters"]["method"].values) == {"vmap(grad)"}


@pytest.mark.parametrize("member", ["forms", "accepts"])
def test_in_tests_it_is_raised(member, monkeypatch):
    monkeypatch.setitem(RULES[F.layer_norm].__dict__, member, failing)
    model, probes = with_probes(NAMED["layer-norm"])
    with pytest.raises(KeyError, match="no such argument"):
        analyze.measure(model, probes, **SETTINGS)


def test_a_rule_that_disagrees_with_autograd_is_told(monkeypatch):
    rule = RULES[F.linear]
    exchange(monkeypatch, rule, lambda call, dy: rule.forms(call, dy * 1.001))
    model, probes = with_probes(NAMED["linear"])
    (told,) = warnings_of(analyze.measure(model, probes, **SETTINGS))
    assert told.startswith("body.0.weight, body.0.bias, head.weight, head.bias: measured by vmap")
    assert told.endswith("as the method before disagreed with plain autograd")


def test_what_vmap_cannot_follow_is_told():
    model, probes = with_probes(NAMED["custom-function"])
    (told,) = warnings_of(analyze.measure(model, probes, **SETTINGS))
    assert told.startswith("weight: measured one at a time, as vmap(grad) failed: RuntimeError:")


@pytest.mark.usefixtures("rules_may_fail")
def test_check_and_run_tell_it_in_the_terminal(tiny: TinyRun, monkeypatch):
    exchange(monkeypatch, RULES[F.linear], failing)
    told = "measured by vmap(grad), as the rule linear failed: KeyError: 'no such argument'"
    assert any(told in warning for warning in check(tiny.path, device="cpu").warnings)
    result = tiny.run()
    assert result.exit_code == 0, result.stderr
    assert told in result.stderr


def test_one_call_by_itself_is_a_rule_like_others(monkeypatch):
    monkeypatch.setitem(ALONE.__dict__, "forms", failing)
    model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 2))
    probes = analyze.ProbeSet(torch.randn(6, 3), torch.randint(2, (6,)))
    with pytest.raises(KeyError, match="no such argument"):
        analyze.measure(model, probes, **SETTINGS)


REFUSED = RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")
ELSEWHERE = RuntimeError("Expected all tensors to be on the same device, but found cpu and cuda:0")


def algorithms_that_fail(monkeypatch, error: Exception, fails: Callable[[str], bool]) -> list[str]:
    """Lets algorithms fail, of outer products that have several; those that were used, in turn."""
    summarise, maker, used = OuterProducts.summarise, OuterProducts.maker, []

    def use(form: OuterProducts, algorithm: str) -> None:
        if len(form.algorithms) == 1:
            return
        used.append(algorithm)
        if fails(algorithm):
            raise error

    def summarise_or_fail(self, algorithm, *arguments):
        use(self, algorithm)
        return summarise(self, algorithm, *arguments)

    def maker_or_failure(self, algorithm):
        make = maker(self, algorithm)
        return make and (lambda *rows: (use(self, algorithm), make(*rows))[1])

    monkeypatch.setattr(OuterProducts, "summarise", summarise_or_fail)
    monkeypatch.setattr(OuterProducts, "maker", maker_or_failure)
    return used


def methods_of(tree) -> dict[str, str]:
    parameters = tree["parameters"].to_dataset()
    names, methods = parameters["parameter"].values, parameters["method"].values
    return dict(zip(names.tolist(), methods.tolist(), strict=True))


@pytest.mark.usefixtures("rules_may_fail")
@pytest.mark.parametrize("name", ["conv2d", "conv1d", "transposed-2d"])
def test_where_an_algorithm_fails_the_rule_has_others(name, monkeypatch):
    """As a library of a GPU may refuse a shape, in the first batch or in a later one."""
    case, (model, probes) = NAMED[name], with_probes(NAMED[name])
    first = []

    def fails(algorithm: str) -> bool:
        """The first that is used, and that one again."""
        first.append(algorithm)
        return algorithm == first[0]

    used = algorithms_that_fail(monkeypatch, REFUSED, fails)
    tree = analyze.measure(model, probes, **SETTINGS)
    assert len({*used}) > 1
    assert {parameter: methods_of(tree)[parameter] for parameter in case.methods} == case.methods
    assert any("failed: RuntimeError: CUDNN_STATUS_NOT" in note for note in warnings_of(tree))
    assert_agrees(tree, expected_of(case))


@pytest.mark.usefixtures("rules_may_fail")
def test_where_all_of_them_fail_the_next_method_is_left(monkeypatch):
    algorithms_that_fail(monkeypatch, REFUSED, lambda algorithm: True)
    model, probes = with_probes(NAMED["conv2d"])
    tree = analyze.measure(model, probes, **SETTINGS)
    assert "vmap(grad)" in methods_of(tree).values()
    assert_agrees(tree, expected_of(NAMED["conv2d"]))


@pytest.mark.usefixtures("rules_may_fail")
def test_an_algorithm_that_fails_late_is_given_up_for_good(monkeypatch):
    """The checkpoint is measured again, by a plan that is proven again."""
    model, probes = with_probes(NAMED["conv2d"])
    engine = Engine(probes, build_loss("cross_entropy"), Settings("cpu", batch_size=4, folds=2))
    engine.prepare([with_probes(NAMED["conv2d"])[0]])
    expected, methods = engine.measure(with_probes(NAMED["conv2d"])[0]), engine.plan.methods
    proofs, prove = [], planner.prove
    monkeypatch.setattr(planner, "prove", lambda *given: (proofs.append(None), prove(*given))[1])
    seen = []

    def fails(algorithm: str) -> bool:
        seen.append(algorithm)
        return algorithm == "grouped" and seen.count("grouped") > 1

    used = algorithms_that_fail(monkeypatch, REFUSED, fails)
    found = engine.measure(model)
    assert found.notes
    assert all("grouped failed: RuntimeError: CUDNN_STATUS_NOT_SUP" in n for n in found.notes)
    assert "grouped" not in engine.plan.algorithms.values()
    assert used[-1] != "grouped"
    assert proofs
    assert engine.plan.methods == methods
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-4, atol=1e-5)


def test_what_failed_is_the_same_in_another_process():
    failure = AlgorithmFailedError({"fc.weight"}, "4x4", "gram", ["direct"], "gram failed")
    other = pickle.loads(pickle.dumps(failure))
    assert (type(other), vars(other), str(other)) == (type(failure), vars(failure), str(failure))


@pytest.mark.parametrize("place", ["a rule", "an algorithm", "one call", "vmap(grad)"])
def test_tensors_of_two_devices_are_a_bug_wherever_they_meet(place, monkeypatch):
    """None of it may pass for a call that cannot be measured, and run by a slower method."""
    name = {"one call": "queries", "vmap(grad)": "custom-function"}.get(place, "conv2d")

    def misplaced(*arguments):
        raise ELSEWHERE

    if place == "a rule":
        exchange(monkeypatch, RULES[F.conv2d], misplaced)
    elif place == "an algorithm":
        algorithms_that_fail(monkeypatch, ELSEWHERE, lambda algorithm: True)
    elif place == "one call":
        exchange(monkeypatch, ALONE, misplaced)
    else:
        monkeypatch.setattr("analyze.gradients.step.fallback._vmap_grad", misplaced)
    model, probes = with_probes(NAMED[name])
    with pytest.raises(RuntimeError, match="on the same device"):
        analyze.measure(model, probes, **SETTINGS)
