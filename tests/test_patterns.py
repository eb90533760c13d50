"""Models whose calls depend on the batch: each pattern of calls is learned, proven and measured."""

from __future__ import annotations

import json

import pytest
import torch

import analyze
from analyze.gradients import planner
from analyze.gradients.calibrate import learning
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.plan import Method
from tests.agreement import SETTINGS, assert_agrees, measured, with_probes
from tests.cases import OF_THE_BATCH, Case

CASE = {case.name: case for case in OF_THE_BATCH}


def methods_of(tree) -> dict[str, str]:
    parameters = tree["parameters"].to_dataset()
    return dict(zip(parameters["parameter"].values, parameters["method"].values, strict=True))


@pytest.mark.parametrize("batch_size", [3, "auto"])
@pytest.mark.parametrize("case", OF_THE_BATCH, ids=lambda case: case.name)
def test_each_batch_is_measured_by_the_rules_of_its_calls(case: Case, batch_size):
    tree, expected = measured(case, batch_size=batch_size)
    assert {name: methods_of(tree)[name] for name in case.methods} == case.methods
    assert json.loads(tree.attrs["provenance"])["warnings"] == []
    assert_agrees(tree, expected)


def engine_of(case: Case, batch_size: int = 2) -> tuple[Engine, torch.nn.Module]:
    model, probes = with_probes(case)
    settings = Settings("cpu", "float64", "saved", batch_size, folds=1)
    return Engine(probes, build_loss("cross_entropy"), settings), model


def test_a_pattern_is_proven_before_it_is_used(monkeypatch):
    """It is compared with autograd on examples that make its calls."""
    learned, proven = [], []
    replanned, prove = planner.replanned, planner.prove

    def watched(*arguments):
        found = replanned(*arguments)
        learned.append((len(found.plan.patterns), found.examples[0].tensors["length"].tolist()))
        return found

    def proving(autograd, examples, plan, proof):
        proven.append((len(plan.patterns), examples.inputs.tensors["length"].tolist()))
        return prove(autograd, examples, plan, proof)

    monkeypatch.setattr(planner, "replanned", watched)
    monkeypatch.setattr(planner, "prove", proving)
    engine, model = engine_of(CASE["to-the-longest"], batch_size=1)
    engine.prepare([model])
    engine.measure(with_probes(CASE["to-the-longest"])[0])
    assert len(engine.plan.patterns) == 4
    assert learned
    assert all(len(set(lengths)) == 1 for _, lengths in learned)
    assert all(one in proven for one in learned)


def test_a_pattern_whose_numbers_are_wrong_is_found_out(monkeypatch):
    calibrate = learning.calibrate

    def broken(*arguments):
        plan = calibrate(*arguments)
        calls = [c for c in plan.calls if c.weights != {"weight": ("second.weight",)}]
        return type(plan)(tuple(calls[:-1]), plan.methods, plan.order)

    monkeypatch.setattr(learning, "calibrate", broken)
    tree, expected = measured(CASE["early-exit"], batch_size=3)
    assert "vmap(grad)" in methods_of(tree).values() or "one at a time" in methods_of(tree).values()
    assert_agrees(tree, expected)


def test_more_patterns_than_a_plan_may_have_leave_the_fallback(monkeypatch):
    monkeypatch.setattr(learning, "MOST_PATTERNS", 2)
    tree, expected = measured(CASE["to-the-longest"], batch_size=1)
    assert set(methods_of(tree).values()) == {"one at a time"}
    warnings = json.loads(tree.attrs["provenance"])["warnings"]
    assert any("as other examples make other calls" in warning for warning in warnings)
    assert_agrees(tree, expected)


@pytest.mark.parametrize("case", OF_THE_BATCH, ids=lambda case: case.name)
def test_a_resumed_run_learns_the_patterns_again(case: Case):
    engine, model = engine_of(case)
    engine.prepare([model])
    started = engine.state()
    expected = engine.measure(with_probes(case)[0])
    ended = engine.state()
    again, model = engine_of(case)
    again.prepare([model], started)
    again.restore(ended)
    found = again.measure(with_probes(case)[0])
    assert again.state()["methods"] == ended["methods"]
    assert (found.gram == expected.gram).all()
    assert (found.squared_norms == expected.squared_norms).all()


def test_threads_learn_patterns_as_one_does(monkeypatch):
    monkeypatch.setattr(planner, "worthwhile_shares", lambda *arguments: 2)
    monkeypatch.setattr(Engine, "divide", lambda self, *arguments: setattr(self, "threads", 2))
    for case in OF_THE_BATCH:
        tree, expected = measured(case, batch_size=1)
        assert {name: methods_of(tree)[name] for name in case.methods} == case.methods
        assert_agrees(tree, expected)


def test_methods_that_hold_in_several_patterns():
    def merged(first: str, second: str) -> str:
        return str(Method.parse(first).merged(Method.parse(second)))

    ours = {"a": "linear", "b": "linear", "c": "never used", "d": "vmap(grad)", "e": "mul, derived"}
    theirs = {"a": "matmul", "b": "never used", "c": "add", "d": "linear", "e": "one at a time"}
    assert {name: merged(text, theirs[name]) for name, text in ours.items()} == {
        "a": "linear + matmul", "b": "linear", "c": "add", "d": "vmap(grad)", "e": "one at a time",
    }  # fmt: skip
    assert merged("mul, derived", "linear") == "mul + linear, derived"


@pytest.mark.parametrize(
    "text",
    [
        "linear", "embedding + linear", "mul + linear, derived", "linear, rows traced",
        "autograd of one call, masked", "autograd of one call, masked, derived, rows traced",
        "vmap(grad)", "one at a time", "never used",
    ],
)  # fmt: skip
def test_methods_are_read_back_from_their_words(text):
    assert str(Method.parse(text)) == text


def test_masks_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8, num_labels=3, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    mask = torch.ones(8, 5, dtype=torch.long)
    mask[1::2, 3:] = 0
    inputs = {"input_ids": torch.randint(3, 20, (8, 5)), "attention_mask": mask}
    probes = analyze.ProbeSet(inputs, torch.randint(3, (8,)))
    model = transformers.BertForSequenceClassification(config).eval()
    for batch_size in (1, 8):
        tree = analyze.measure(model, probes, **(SETTINGS | {"batch_size": batch_size}))
        assert set(methods_of(tree).values()).isdisjoint({"vmap(grad)", "one at a time"})
