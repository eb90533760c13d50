"""The proof: a rule that is wrong is found out at run time, and the number stays right."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from analyze.gradients.forms import Explicit, Form, OuterProducts, ScatteredRows
from analyze.gradients.rules import RULES
from tests import oracle
from tests.cases import CASES
from tests.test_engine import TIGHT, measured

BY_RULE = {
    rule.name: (function, next(c for c in CASES if rule.name in c.methods.values()))
    for function, rule in RULES.items()
}


def slightly_wrong(form: Form) -> Form:
    """The form of gradients that are one part in a thousand too long."""
    if isinstance(form, Explicit):
        return Explicit(form.values * 1.001)
    if isinstance(form, ScatteredRows):
        return replace(form, dy=form.dy * 1.001)
    assert isinstance(form, OuterProducts)

    def factors(start, stop):
        x, dy = form.factors(start, stop)
        return x, dy * 1.001

    return replace(form, factors=factors)


@pytest.mark.parametrize("name", BY_RULE)
def test_a_broken_rule_is_demoted(name, monkeypatch):
    function, case = BY_RULE[name]
    rule = RULES[function]

    def broken(*args):
        return {argument: slightly_wrong(form) for argument, form in rule.forms(*args).items()}

    monkeypatch.setitem(RULES, function, replace(rule, forms=broken))
    tree, expected = measured(case)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    for parameter in [p for p, method in case.methods.items() if name in method]:
        at = parameters.sel(parameter=parameter)
        assert at["method"].item() in ("vmap(grad)", "one at a time")
        found = at["gradient_sqnorm"].values
        assert oracle.relative_error(found, expected.squared_norms[parameter]) < TIGHT


def test_the_proof_is_in_the_provenance():
    tree, _ = measured(CASES[0])
    proof = json.loads(tree.attrs["provenance"])["proof"]
    assert proof["precision"] == "float64"
    assert set(proof["relative_errors"]) == set(tree["parameters"]["parameter"].values)
    assert max(proof["relative_errors"].values()) < TIGHT
    assert proof["unproven"] == []


def test_dead_unused_and_rounding_are_told_apart():
    tree, _ = measured(next(c for c in CASES if c.name == "unused"))
    proof = json.loads(tree.attrs["provenance"])["proof"]
    assert proof["zero_to_rounding"] == ["inner.bias"]
    assert "spare.weight" not in proof["unproven"]
    methods = json.loads(tree.attrs["provenance"])["plan"]["methods"]
    assert methods["spare.weight"] == "never used"
