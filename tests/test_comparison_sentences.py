"""Every sentence of a comparison: results for which it is said, and for which it must not be."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr

import analyze
from analyze.comparison import examples, rows
from analyze.comparison.cards import cards
from analyze.comparison.sentences import NO_AGREEMENT, SENTENCES, lead, peaks
from analyze.pages.text import rounded
from tests.comparisons import make_comparison
from tests.synthetic import synthetic

SIZES = {"layers": 1, "checkpoints": 5, "subsets": 1, "probes": 60, "folds": 6}


def changed(tree: xr.DataTree, group: str, **values) -> xr.DataTree:
    """A copy in which variables of a group are replaced."""
    copy = tree.copy(deep=True)
    copy[group] = xr.DataTree(copy[group].to_dataset(inherit=False).assign(values))
    return copy


def with_p(runs: str, p: float | list[float], **options) -> xr.DataTree:
    """Runs with these adjusted p-values of all pairs at five checkpoints."""
    tree = make_comparison(runs=runs, **options)
    like = tree["pairs/network"]["p_value_adjusted"]
    along = xr.DataArray(np.broadcast_to(p, 5), dims="checkpoint")
    return changed(tree, "pairs/network", p_value_adjusted=0 * like.fillna(0) + along)


def with_chance(p: list[float]) -> xr.DataTree:
    """Two runs with these p-values of chance at all checkpoints."""
    tree = with_p("ab", 0.9)
    like = tree["network"]["m_coherence"]
    of_run = xr.DataArray(p, dims="run", coords={"run": ["a", "b"]})
    return changed(tree, "network", p_value_of_chance=0 * like + of_run)


def without_values() -> xr.DataTree:
    tree = with_p("ab", np.nan)
    return changed(tree, "events", peak=np.nan * tree["events"]["peak"])


def alike(runs: str) -> xr.DataTree:
    """Runs of which the first two have the same values, so that no pair of them has an error."""
    tree = with_p(runs, np.nan)
    ratio = tree["pairs/network"]["log_ratio"]
    same = xr.DataArray([name == "b / a" for name in ratio["pair"].values], dims="pair")
    return changed(tree, "pairs/network", log_ratio=ratio.where(~same, 0.0))


# Of each sentence: results for which it is said with these words, and for which it is not.
TABLE = {
    "nothing": (without_values, "No run has a value", lambda: with_p("ab", 0.9)),
    "by_chance": (
        lambda: with_chance([0.2, 0.001]),
        "At no checkpoint is there agreement beyond chance in a.",
        lambda: with_chance([0.001, 0.001]),
    ),
    "equal": (
        lambda: alike("ab"),
        "The values of a and b are equal wherever both have one.",
        lambda: with_p("ab", np.nan),
    ),
    "two_differ": (
        lambda: with_p("ab", [0.9, 0.01, 0.9, 0.9, 0.9]),
        "agree significantly less in b than in a at 1, first at step 4.",
        lambda: with_p("ab", 0.06),
    ),
    "some_differ": (
        lambda: with_p("abc", 0.01),
        "3 of 3 pairs differ significantly at some checkpoint: b / a, c / a, c / b.",
        lambda: with_p("abc", 0.06),
    ),
    "none_differ": (
        lambda: with_p("abc", 0.06),
        "No two of them differ significantly",
        lambda: with_p("abc", [0.06, 0.04, 0.06, 0.06, 0.06]),
    ),
    "untested": (
        lambda: with_p("ab", np.nan),
        "could not be tested",
        lambda: with_p("ab", 0.9),
    ),
    "range_of_peaks": (
        lambda: with_chance([0.2, 0.001]),
        "Apart from a, the highest measured m-coherence of 500 examples of the whole network is "
        "9.12, in b at",
        lambda: with_chance([0.2, 0.3]),
    ),
}


def test_a_single_shared_place_is_said_as_one():
    tree = with_p("ab", [np.nan, 0.01, np.nan, np.nan, np.nan])
    (said,) = [text for text in lead(tree, "all") if "significantly" in text]
    assert said.startswith("At step 4, the only place where both have a value, gradients agree ")
    assert said.endswith(" significantly less in b than in a.")


@pytest.mark.parametrize("p", [0.9, 0.01])
def test_levels_of_the_loss_are_not_called_checkpoints(p):
    tree = with_p("abc", p)
    tree.attrs["provenance"] = json.dumps(json.loads(tree.attrs["provenance"]) | {"align": "loss"})
    said = [sentence(tree, "all") for sentence in SENTENCES if "differ" in sentence.__name__]
    (differ,) = [text for text in said if text is not None]
    assert re.search("at (any|some) loss level", differ)
    assert "checkpoint" not in differ


def test_the_table_has_every_sentence():
    assert list(TABLE) == [sentence.__name__ for sentence in SENTENCES]


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.__name__)
def test_a_sentence_is_said_where_it_is_true_and_nowhere_else(sentence):
    true, words, false = TABLE[sentence.__name__]
    said = sentence(true(), "all")
    assert said is not None
    assert words in said
    assert sentence(false(), "all") is None


def test_two_files_of_one_run_are_called_equal_and_nothing_else():
    one = synthetic(strength=4.0, **SIZES)
    said = lead(analyze.compare({"x": one, "y": one}), "all")
    assert said[0] == "The values of x and y are equal wherever both have one."
    assert re.fullmatch(r"The peaks of the whole network, .*, are all at [\d.]+\.", said[1])
    assert len(said) == 2
    said = " ".join(lead(alike("abc"), "all"))
    assert "1 of 3 pairs have equal values wherever both have one: b / a." in said
    assert "could not be tested" in said  # the others


def test_more_and_less_are_those_of_the_ratio():
    tree = with_p("ab", [0.01, 0.9, 0.01, 0.9, 0.9])
    ratio = xr.DataArray([0.7, -0.1, -0.7, 0.2, 0.1], dims="checkpoint")
    like = tree["pairs/network"]["log_ratio"]
    tree = changed(tree, "pairs/network", log_ratio=0 * like.fillna(0) + ratio)
    said = " ".join(lead(tree, "all"))
    assert "more in b than in a at 1, first at step 0, and less at 1, first at step 16." in said
    assert said.startswith("Of 5 places")


def test_where_no_run_agrees_beyond_chance_the_lead_says_so_and_names_no_peak():
    runs = {f"run {k}": synthetic(seed=k, strength=0.0, **SIZES) for k in range(2)}
    assert lead(analyze.compare(runs), "all")[0] == NO_AGREEMENT
    assert "highest" not in " ".join(lead(analyze.compare(runs), "all"))
    runs["run 1"] = synthetic(seed=5, strength=4.0, **SIZES)
    tree = analyze.compare(runs)
    assert "At no checkpoint is there agreement beyond chance in run 0." in lead(tree, "all")
    assert "in run 1 at step" in lead(tree, "all")[-1]
    looks = [{"label": name, "colour": "#000000"} for name in runs]
    assert [card.chance for card in cards(tree, looks, "all")] == ["no agreement beyond chance", ""]


def test_the_highest_values_are_a_range_that_names_and_orders_no_two():
    tree = with_chance([0.001, 0.001])
    low, high = sorted(value for value, _ in peaks(tree, "all").values())
    ends = f"between {rounded(low)} and {rounded(high)}."
    assert lead(tree, "all")[-1].endswith(f"of m-coherence of 500 examples, lie {ends}")


def test_of_many_pairs_that_differ_the_lead_has_the_number_alone():
    said = lead(with_p("abcd", 0.01), "all")[0]
    assert said == "6 of 6 pairs differ significantly at some checkpoint."


# --- single examples


def table(scores: np.ndarray) -> xr.Dataset:
    names = [f"run {k}" for k in range(len(scores))]
    return xr.Dataset({"suspicion": (("run", "probe"), scores)}, {"run": names})


def configurations(*sizes: int) -> list[examples.Side]:
    names = iter(range(sum(sizes)))
    return [examples.Side(f"side {k}", tuple(f"run {next(names)}" for _ in range(n)), n > 1)
            for k, n in enumerate(sizes)]  # fmt: skip


def test_equal_runs_have_no_example_that_differs():
    scores = np.random.default_rng(0).standard_normal(50)
    rows, said = examples.differing(table(np.stack([scores, scores + 1e-7])), configurations(1, 1))
    assert (rows, said) == ([], "No example of 50 differs between the runs.")


def test_between_single_runs_nothing_is_said_of_chance():
    scores = np.zeros((2, 50))
    scores[1, 7] = 0.5
    rows, said = examples.differing(table(scores), configurations(1, 1))
    assert rows == [7]
    assert "What another seed would change is not known" in said


def test_between_configurations_an_example_differs_by_more_than_seeds_do():
    scores = 0.1 * np.random.default_rng(1).standard_normal((8, 200))
    rows, said = examples.differing(table(scores), configurations(4, 4))
    assert rows == []
    assert "differs between the configurations by more than their seeds do" in said
    scores[4:, [3, 9]] += [[1.0, 2.0]]
    rows, said = examples.differing(table(scores), configurations(4, 4))
    assert rows[:2] == [9, 3]
    assert said.startswith(f"{len(rows)} of 200 examples differ between the configurations")


def test_seeds_of_one_configuration_have_no_example_that_differs():
    scores = np.random.default_rng(2).standard_normal((3, 50))
    assert examples.differing(table(scores), configurations(3))[0] == []


def test_what_has_no_value_at_all_is_remarked():
    empty = make_comparison()
    for group in ("network", "layers"):
        empty = changed(empty, group, m_coherence=np.nan * empty[group]["m_coherence"])
    assert rows.NO_VALUE in rows.remarks(empty)
    only_layers = make_comparison()
    nothing = np.nan * only_layers["network"]["m_coherence"]
    assert rows.NO_VALUE not in rows.remarks(changed(only_layers, "network", m_coherence=nothing))


def test_batch_norm_is_named_only_of_a_network_that_has_some():
    def measured(layers: int, how: str) -> xr.DataTree:
        tree = synthetic(**SIZES | {"layers": layers})  # the second layer is batch norm
        origin = json.loads(tree.attrs["provenance"]) | {"batch_norm": how}
        tree.attrs["provenance"] = json.dumps(origin)
        return tree

    for layers, known in ((1, False), (2, True)):
        runs = {"a": measured(layers, "recomputed"), "b": measured(layers, "saved")}
        origin = json.loads(analyze.compare(runs).attrs["provenance"])
        assert [("batch_norm" in run) for run in origin["runs"].values()] == [known, known]
        assert ("batch_norm" in origin["differing_settings"]) == known


def test_peaks_leave_out_nobody_where_all_agree_beyond_chance():
    told = [text for text in lead(with_chance([0.001, 0.001]), "all") if "peaks" in text]
    assert [text.startswith("The peaks of the whole network") for text in told] == [True]
