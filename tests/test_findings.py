"""What the report's first paragraph may say, and when it must not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

import analyze
from analyze.reports.summary import subset_summaries
from analyze.results.findings import SENTENCES, Findings, LayerPeak, Opposed, findings, said
from analyze.results.values import Value
from analyze.statistics.between_subsets import between_subsets
from tests.synthetic import synthetic
from tests.trees import make_tree

HIGH, NEXT, END = (Value(v, 1.0, f"step {k}", f"{k}") for v, k in ((30, 64), (29, 32), (2, 99)))
FIRST, OTHER = LayerPeak("conv1", "Conv2d", HIGH), LayerPeak("fc", "Linear", NEXT)
# A run that agrees most at one of its twelve checkpoints, and in one of its layers.
CLEAR = Findings(
    measured=12, tested=True, agreeing=12, probes=1000, held_out="", quantity="m-coherence",
    first=HIGH, second=None, last=END, ended=True, last_agrees=True, last_cancels=False,
    layers_tested=True, layer=FIRST, next_layer=None,
)  # fmt: skip
QUIET = replace(CLEAR, agreeing=0, last_agrees=False, layer=None)
SHARED = replace(CLEAR, second=NEXT, next_layer=OTHER)
SINGLE = replace(CLEAR, measured=1, agreeing=1, last=None)
UNTESTED = replace(QUIET, tested=False, layers_tested=False)
AGAINST = Opposed("clean", "corrupted", 3, -0.42, 0.1, "step 64")
NOTHING = replace(UNTESTED, measured=0, first=None, last=None)
# By the name of a sentence: findings for which it is true, and for which it must not be said.
CASES = {
    "nothing measured": ([NOTHING], [CLEAR, QUIET, UNTESTED]),
    "no agreement": ([QUIET, replace(QUIET, measured=1, last=None)], [CLEAR, UNTESTED, NOTHING]),
    "one checkpoint agrees": ([SINGLE], [CLEAR, replace(SINGLE, agreeing=0), UNTESTED]),
    "agree most": ([CLEAR], [SHARED, QUIET, UNTESTED, SINGLE]),
    "highest not told from the next": ([SHARED], [CLEAR, QUIET, UNTESTED, NOTHING]),
    "not tested": ([UNTESTED], [CLEAR, QUIET, NOTHING]),
    "where it agrees": ([replace(CLEAR, agreeing=3)], [CLEAR, QUIET, SINGLE]),
    "at the end": ([CLEAR], [replace(CLEAR, last_agrees=False), QUIET, SINGLE]),
    "chance at the end": (
        [replace(CLEAR, last_agrees=False)],
        [CLEAR, QUIET, UNTESTED, replace(CLEAR, last_agrees=False, last_cancels=True)],
    ),
    "cancel at the end": (
        [replace(CLEAR, last_agrees=False, last_cancels=True)], [CLEAR, QUIET, SINGLE]
    ),
    "subsets oppose": ([replace(CLEAR, opposed=AGAINST)], [CLEAR, QUIET, NOTHING]),
    "no layer agrees": ([QUIET], [CLEAR, SHARED, UNTESTED, NOTHING]),
    "highest layer": ([CLEAR, SINGLE], [SHARED, QUIET, UNTESTED]),
    "highest layers not told apart": ([SHARED], [CLEAR, QUIET, UNTESTED]),
    "too high on average": ([CLEAR, SHARED], [QUIET, UNTESTED, NOTHING]),
}  # fmt: skip


def names(found: Findings) -> list[str]:
    return [name for name, _ in said(found)]


def text(found: Findings) -> str:
    return " ".join(re.sub("<[^>]*>", "", words) for _, words in said(found))


def test_every_sentence_has_its_cases():
    assert list(CASES) == [sentence.name for sentence in SENTENCES]
    assert all(where and elsewhere for where, elsewhere in CASES.values())


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_is_said_where_it_is_true_and_nowhere_else(name):
    where, elsewhere = CASES[name]
    assert all(name in names(found) for found in where)
    assert not any(name in names(found) for found in elsewhere)


def test_words_of_the_sentences():
    assert text(CLEAR) == (
        "Over all 1,000 probes, gradients agree most at step 64: m-coherence is 30.0 ± 1.0 there. "
        "At the end (step 99) it is 2.0 ± 1.0. Among the layers, over the same probes, conv1 "
        "(Conv2d) peaks highest, at 30.0 ± 1.0 (step 64). The highest of several noisy values is "
        "too high on average."
    )
    assert (
        "But clean and corrupted pull against each other, beyond chance at 3 of 12 checkpoints: "
        "the cosine of their mean gradients is −0.42 ± 0.10 at step 64."  # noqa: RUF001
    ) in text(replace(CLEAR, opposed=AGAINST))
    assert text(QUIET) == (
        "Over all 1,000 probes, there is no agreement beyond chance: at none of 12 checkpoints can "
        "m-coherence be told from that of gradients without a common direction, at a false "
        "discovery rate of 5 %. No layer agrees beyond chance."
    )
    for end in ("at the end", "chance at the end", "cancel at the end"):
        unknown = dict(said(replace(CASES[end][0][0], ended=False)))[end]
        assert unknown.startswith("At the last that could be measured (step 99) it is")
    left_out = text(replace(CLEAR, held_out="validation"))
    assert left_out.startswith("Over the 1,000 probes outside validation,")


def test_no_value_is_said_to_be_more_than_all_for_its_rounding():
    """Of 1,000 equal gradients in float32, whose error by the jackknife is rounding as well."""
    over = Value(1000 * (1 + 2e-8), 3e-6, "step 64", "64")
    said = text(replace(CLEAR, first=over, layer=replace(FIRST, value=over)))
    assert "m-coherence is 1,000 there" in said
    assert "1,000.0" not in said


@pytest.fixture(scope="module")
def quiet():
    """Gradients without a common direction."""
    return synthetic(layers=3, checkpoints=3, subsets=["clean"], strength=0.0, probes=60, folds=6,
                     seed=1)  # fmt: skip


def test_results_without_agreement(quiet):
    assert names(findings(quiet)) == ["no agreement", "no layer agrees"]
    assert {card.chance for card in subset_summaries(quiet).values()} == {
        "no agreement beyond chance"
    }


def test_results_with_agreement():
    tree = synthetic(layers=3, checkpoints=4, subsets=["clean"], probes=200, folds=6, strength=3.0)
    found = findings(tree)
    value = tree["network"]["m_coherence"].sel(subset="all").values
    assert found.first.value == pytest.approx(value.max())
    assert found.first.place == int(np.argmax(value))
    assert {"agree most", "highest not told from the next"} & set(names(found))
    assert subset_summaries(tree)["clean"].chance == ""


@pytest.fixture(scope="module")
def opposing():
    """The same kind of inputs with two labels, more of one than of the other."""
    network = nn.Linear(4, 2)
    nn.init.zeros_(network.weight), nn.init.zeros_(network.bias)
    subset = ["clean"] * 60 + ["corrupted"] * 20 + ["held_out"] * 20
    draw = np.random.default_rng(0)
    x = (1.0 + 0.3 * draw.normal(size=(100, 4))).astype(np.float32)
    targets = np.array([0] * 60 + [1] * 40)
    probes = analyze.ProbeSet(x, targets, subset, held_out=("held_out",))
    return analyze.concat([analyze.measure(network, probes, step=k) for k in (1, 2)])


def test_subsets_that_oppose_are_told_beside_all_probes(opposing):
    found = findings(opposing)
    table = between_subsets(opposing).sel(subset="clean", subset_other="corrupted")
    beyond = (table["p_value_adjusted"] <= 0.05) & (table["gradient_cosine"] < 0)
    assert (found.opposed.first, found.opposed.second) == ("clean", "corrupted")
    assert 0 < found.opposed.count <= int(beyond.sum())
    at = int(np.nanargmin(table["p_value_adjusted"].values))
    assert found.opposed.cosine == pytest.approx(float(table["gradient_cosine"][at]))
    assert "clean and corrupted pull against each other, beyond chance at" in text(found)
    assert "held_out pull" not in text(found)


def test_subsets_that_must_oppose_are_not_told_to(opposing):
    forced = opposing.copy()
    network = forced["network"].to_dataset()
    kinds = network["warning_flags"].attrs["flag_meanings"].split()
    bit = 2 ** kinds.index("near_stationary")
    forced["network"] = forced["network"].assign(warning_flags=0 * network["warning_flags"] + bit)
    assert findings(opposing).opposed is not None
    assert findings(forced).opposed is None


def test_results_without_a_test():
    found = findings(make_tree(folds=1))
    assert names(found) == ["not tested"]
    assert "held_out" in text(found)
    assert names(findings(make_tree(steps=(0,), skipped={0: "damaged"}))) == ["nothing measured"]
