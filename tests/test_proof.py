"""The proof: a rule that is wrong is found out at run time, and the number stays right.

Each test breaks something on purpose, as a mistake in the program would, and measures probes that
exercise it. The parameters must end up with another method, and with the oracle's numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients import rewrites
from analyze.gradients.data.segments import Segments
from analyze.gradients.forms import (
    Explicit,
    Form,
    OuterProducts,
    Placed,
    ScatteredRows,
    Sum,
    Summary,
)
from analyze.gradients.forms import form as forms
from analyze.gradients.rewrites import recurrent
from analyze.gradients.rules import ALONE, MASKED, RULES, Call, Rule, weights
from analyze.gradients.rules.rule import KEPT
from analyze.gradients.step import collector
from tests import oracle
from tests.agreement import TIGHT, measured, zero_to_rounding
from tests.cases import CASES, NAMED, Case, rules_of

ALL_RULES = {rule.name: rule for rule in (*RULES.values(), ALONE, MASKED)}


def case_with(rule: str) -> Case:
    """The first case that requires a rule of some parameter."""
    return next(c for c in CASES if rule in c.rules)


def found_out(case: Case, of: Callable[[str], bool] = lambda method: True) -> None:
    """Measure; the parameters whose planned method is concerned are demoted, all are right."""
    tree, expected = measured(case)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    methods = dict(zip(parameters["parameter"].values, parameters["method"].values, strict=True))
    concerned = [name for name, method in case.methods.items() if of(method)]
    assert any(methods[name] != case.methods[name] for name in concerned), methods
    for name in set(expected.squared_norms) - set(zero_to_rounding(tree)):
        squares = expected.squared_norms[name]
        found = parameters["gradient_sqnorm"].sel(parameter=name).values
        assert oracle.relative_error(found, squares) < TIGHT, name


def exchange(monkeypatch: pytest.MonkeyPatch, rule: Rule, forms: Callable) -> None:
    """Let a rule make other forms, for all of its functionals."""
    if rule in (ALONE, MASKED):
        monkeypatch.setitem(rule.__dict__, "forms", forms)
    for function in rule.functions:
        monkeypatch.setitem(RULES, function, replace(rule, forms=forms))


def slightly_longer(form: Form) -> Form:
    """The form of gradients that are one part in a thousand too long."""
    if isinstance(form, OuterProducts):

        def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
            x, dy = form.factors(start, stop)
            return x, dy * 1.001

        return replace(form, factors=factors, makers={}, single_makers={}, grams=None)
    if isinstance(form, ScatteredRows):
        return replace(form, dy=form.dy * 1.001)
    return Explicit(form.explicit(0, form.count) * 1.001)


@pytest.mark.parametrize("name", ALL_RULES)
def test_a_gradient_of_another_length_is_found_out(name, monkeypatch):
    rule = ALL_RULES[name]
    original = rule.forms

    def broken(call: Call, dy: Tensor) -> dict[str, Form]:
        return {k: slightly_longer(form) for k, form in original(call, dy).items()}

    exchange(monkeypatch, rule, broken)
    found_out(case_with(name), lambda method: name in rules_of(method))


@pytest.mark.parametrize("name", ALL_RULES)
def test_another_axis_of_examples_is_found_out(name, monkeypatch):
    """Each example gets the output gradient of its neighbour."""
    rule = ALL_RULES[name]
    original = rule.forms

    def broken(call: Call, dy: Tensor) -> dict[str, Form]:
        step = call.output.after
        return original(call, dy.roll(step, call.output.dim))

    exchange(monkeypatch, rule, broken)
    found_out(case_with(name), lambda method: name in rules_of(method))


def ignoring(rule: Rule, **values: object) -> Callable:
    """The forms of a rule that does not know some options."""

    def broken(call: Call, dy: Tensor) -> dict[str, Form]:
        return rule.forms(replace(call, arguments=call.arguments | values), dy)

    return broken


OPTIONS = [
    (F.conv2d, {"padding": 0}, "conv2d-padding"),
    (F.conv2d, {"stride": 1}, "conv2d-stride"),
    (F.conv2d, {"dilation": 1}, "conv2d-dilation"),
    (F.conv_transpose2d, {"stride": 1}, "transposed-2d"),
    (F.conv_transpose2d, {"padding": 0}, "transposed-all-options"),
    (F.batch_norm, {"eps": 0.5}, "batch-norm-2d"),
    (F.instance_norm, {"eps": 0.5}, "instance-norm"),
    (F.group_norm, {"num_groups": 1}, "group-norm"),
    (F.rms_norm, {"eps": 0.5}, "rms-norm"),
    (F.embedding, {"padding_idx": None}, "embedding-padding"),
    (torch.sub, {"alpha": 1}, "arithmetic"),
]


@pytest.mark.usefixtures("rules_may_fail")  # other shapes do not fit
@pytest.mark.parametrize(("function", "options", "name"), OPTIONS,
                         ids=[f"{o[2]}-{next(iter(o[1]))}" for o in OPTIONS])  # fmt: skip
def test_an_ignored_option_is_found_out(function, options, name, monkeypatch):
    rule = RULES[function]

    exchange(monkeypatch, rule, ignoring(rule, **options))
    found_out(NAMED[name], lambda method: rule.name in rules_of(method))


def test_statistics_of_another_normalisation_are_found_out(monkeypatch):
    """Layer norm's rule reads those of the forward pass, and with them its ``eps``."""
    rule = RULES[F.layer_norm]

    def broken(call: Call, dy: Tensor) -> dict[str, Form]:
        x, shape = call.arguments["input"], call.arguments["normalized_shape"]
        other = torch.native_layer_norm(x, shape, None, None, 1e-5)[1:]
        return rule.forms(replace(call, arguments=call.arguments | {KEPT: other}), dy)

    exchange(monkeypatch, rule, broken)
    found_out(NAMED["layer-norm-eps"], lambda method: rule.name in rules_of(method))


@pytest.mark.usefixtures("rules_may_fail")  # other shapes do not fit
@pytest.mark.parametrize("name", ["addmm-scaled", "matmul-broadcast", "einsum-diagonal"])
def test_a_rule_that_takes_what_it_should_not_is_found_out(name, monkeypatch):
    """Scaled products, broadcast batches and diagonals are not plain products."""
    for function in (torch.addmm, torch.matmul, torch.einsum):
        rule = RULES[function]
        for each in rule.functions:
            monkeypatch.setitem(RULES, each, replace(rule, accepts=lambda call: True))
    found_out(NAMED[name])


def without_cross_terms(form_list: list[Form]) -> Form:
    """Adds up the squared norms of several uses as if they were orthogonal."""

    class Orthogonal(Form):
        count, shape = form_list[0].count, form_list[0].shape

        def maker(self, algorithm: str) -> None:
            """It has no gradients."""

        def _by(self, algorithm: str, segments: Segments, choose: forms.Choose) -> Summary:
            found = [choose(form, segments) for form in form_list]
            return Summary(sum(f.totals for f in found), sum(f.squared_norms for f in found))

    return Orthogonal()


@pytest.mark.parametrize(
    "name", ["called-twice", "tied-embedding", "tied-transposed", "lstm", "gru", "cells"]
)
def test_a_missing_cross_term_is_found_out(name, monkeypatch):
    monkeypatch.setattr(collector, "combined", without_cross_terms)
    found_out(NAMED[name])


def test_wrong_inner_products_of_a_tied_table_are_found_out(monkeypatch):
    monkeypatch.setattr(Sum, "algorithms", ("cross",))
    monkeypatch.setattr(
        "analyze.gradients.forms.combination.inner_products",
        lambda rows, outer: torch.zeros(2, rows.count, dtype=torch.float64),
    )
    found_out(NAMED["tied-embedding"])


def test_a_part_put_in_the_wrong_place_is_found_out(monkeypatch):
    put = Placed._put
    monkeypatch.setattr(Placed, "_put", lambda self, values: put(self, values).roll(1, 0))
    found_out(NAMED["attention-cross"])


def test_parts_that_overlap_taken_for_apart_are_found_out(monkeypatch):
    monkeypatch.setattr(Sum, "algorithms", ("apart",))
    found_out(NAMED["tied-transposed"])


@pytest.mark.parametrize("name", ["weight-norm", "low-rank", "tables", "spectral-norm"])
def test_a_derived_weight_taken_for_the_parameter_is_found_out(name, monkeypatch):
    pulled = weights.PulledBack

    def unpulled(form: Form, parameter: Tensor, tensor: Tensor) -> Form:
        right = pulled(form, parameter, tensor)
        values = right.explicit(0, right.count)
        return Explicit(values * 0.5)

    monkeypatch.setattr(weights, "PulledBack", unpulled)
    found_out(NAMED[name])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_wrong_rewrite_is_found_out(name, monkeypatch):
    """Not only its gradients would be wrong, but its outputs."""
    step = recurrent._STEPS[name]

    def broken(*args):
        return tuple(value * 1.001 for value in step(*args))

    function = getattr(torch, name)
    equivalent = partial(recurrent._stack_of_layers, broken)
    monkeypatch.setitem(rewrites.REWRITES, function, equivalent)
    found_out(NAMED[name])


def test_the_proof_is_in_the_provenance():
    tree, _ = measured(CASES[0])
    proof = json.loads(tree.attrs["provenance"])["proof"]
    assert proof["precision"] == "float64"
    assert set(proof["relative_errors"]) == set(tree["parameters"]["parameter"].values)
    assert max(proof["relative_errors"].values()) < TIGHT
    assert proof["unproven"] == []


def test_dead_unused_and_rounding_are_told_apart():
    tree, _ = measured(NAMED["unused"])
    proof = json.loads(tree.attrs["provenance"])["proof"]
    assert proof["zero_to_rounding"] == ["inner.bias"]
    assert "spare.weight" not in proof["unproven"]
    methods = json.loads(tree.attrs["provenance"])["plan"]["methods"]
    assert methods["spare.weight"] == "never used"
