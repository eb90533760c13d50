"""What goes wrong in a rule is never measured around without a word."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analyze
from analyze.gradients.rules import ALONE, RULES
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
