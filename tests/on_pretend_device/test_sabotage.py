"""What must not happen on a GPU, done on purpose: the tests of this folder see it."""

from __future__ import annotations

import pytest
from torch.nn import functional as F

import analyze
from analyze.gradients.data import loader
from analyze.gradients.established import ESTABLISHED
from analyze.gradients.rules import RULES
from analyze.gradients.sums.cell_sums import CellSums
from tests.agreement import assert_exact, measured
from tests.cases import NAMED
from tests.on_pretend_device import test_cases
from tests.on_pretend_device.test_cases import LAST, held
from tests.test_proof import exchange

CASE = NAMED["linear"]
OPTIONS = {"device": "pretend", "batch_size": 3}


def test_a_tensor_that_is_left_on_the_cpu_is_seen(monkeypatch):
    """It is no reason to measure by another method, which would be right."""
    rule = RULES[F.linear]
    exchange(monkeypatch, rule, lambda call, dy: rule.forms(call, dy.cpu()))
    with pytest.raises(RuntimeError, match="the same device"):
        assert_exact(CASE, **OPTIONS)


@pytest.mark.usefixtures("rules_may_fail")
def test_nor_is_it_in_silence_for_a_user(monkeypatch):
    """The cause is among the warnings, and the test of the methods is red."""
    rule = RULES[F.linear]
    exchange(monkeypatch, rule, lambda call, dy: rule.forms(call, dy.cpu()))
    tree, _ = measured(CASE, **OPTIONS)
    assert "Expected all tensors to be on the same device" in tree.attrs["provenance"]
    with pytest.raises(AssertionError):
        assert_exact(CASE, **OPTIONS)


def test_a_rule_that_makes_the_host_wait_is_seen(monkeypatch):
    forms = RULES[F.linear].forms

    def waiting(call, dy):
        dy.flatten()[0].item()
        return forms(call, dy)

    monkeypatch.setattr(test_cases, "WHERE", (*test_cases.WHERE, "test_sabotage.py"))
    before = test_cases.waits_in_rules()
    measured(CASE, **OPTIONS)
    assert test_cases.waits_in_rules() == before
    exchange(monkeypatch, RULES[F.linear], waiting)
    measured(CASE, **OPTIONS)
    assert test_cases.waits_in_rules() != before


def test_a_use_before_arrival_is_seen(monkeypatch):
    """Memory that nothing has been copied to yet is no number."""

    monkeypatch.setattr(loader, "_used_here", lambda examples, *waiting: examples)
    with pytest.raises((analyze.InputError, AssertionError, IndexError, RuntimeError)):
        assert_exact(CASE, **OPTIONS)


def test_a_batch_that_is_kept_is_seen(monkeypatch):
    kept, add = [], CellSums.add
    before = held()
    measured(CASE, **OPTIONS)
    ESTABLISHED.forget()
    assert held()[0] - before[0] <= LAST

    def keeping(self, cells, name, totals, *scale):
        kept.append(totals)
        add(self, cells, name, totals, *scale)

    monkeypatch.setattr(CellSums, "add", keeping)
    measured(CASE, **OPTIONS)
    ESTABLISHED.forget()
    assert held()[0] - before[0] > LAST
