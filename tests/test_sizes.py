"""M-coherence at another size than that measured: what it is, its error, and how it is chosen."""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest

import analyze
from analyze.errors import InputError
from analyze.figures import pair_ratio, runs_over_training
from analyze.statistics import companions, sizes
from analyze.statistics.arrays import alpha_unbiased
from analyze.statistics.sufficient import SufficientStatistics
from tests.conftest import assert_three_facts
from tests.simulation import COUNT, normal_folds
from tests.synthetic import synthetic
from tests.trees import make_tree, with_chance


def sums(gradients):
    """T and Q of gradients ``[..., m, d]``."""
    return np.square(gradients.sum(-2)).sum(-1), np.square(gradients).sum((-2, -1))


def drawn(count, seed=0):
    """Gradients of very different norms that agree somewhat."""
    generator = np.random.default_rng(seed)
    norms = np.exp(generator.standard_normal((count, 1)))
    return norms * generator.normal([0.6, 0, 0, 0], 1.0, (count, 4))


@pytest.mark.parametrize("size", [2, 3, 5, 8, 9])
def test_it_is_the_ratio_of_expectations_over_every_draw_of_some_examples(size):
    gradients = drawn(9)
    alpha = alpha_unbiased(*sums(gradients), 9)
    draws = np.array(list(combinations(range(9), size)))
    total, squares = sums(gradients[draws])
    found = companions.coherence_at_size(alpha, size)
    assert found == pytest.approx(total.mean() / squares.mean(), rel=1e-12)


def test_the_mean_of_the_ratio_is_another_number_where_norms_differ():
    """What the formula does not promise: two equal gradients and a long one across them."""
    gradients = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 10.0]])
    total, squares = sums(gradients[[[0, 1], [0, 2], [1, 2]]])
    assert (total / squares).mean() == pytest.approx((2 + 1 + 1) / 3)
    expected = companions.coherence_at_size(alpha_unbiased(*sums(gradients), 3), 2)
    assert expected == pytest.approx(1 + (104 / 102 - 1) / 2)


def test_the_error_is_that_of_the_expectation_by_the_same_factor():
    """Within 10 % of the spread between samples of the size measured, at a smaller and a larger."""
    gram, squares = normal_folds(np.random.default_rng(2), 1500, 10, np.ones(50), 0.05)
    everything = np.ones((1, 10), dtype=bool)
    table = SufficientStatistics(gram, squares, np.full(10, COUNT // 10), np.arange(10), everything)
    for size in (181, 5000):
        value = companions.coherence_at_size(table.alpha_unbiased, size)[..., 0]
        error = (size - 1) * table.alpha_stderr[..., 0]
        assert error.mean() == pytest.approx(value.std(), rel=0.1)
        assert value.mean() == pytest.approx(1 + (size - 1) * 0.05, rel=0.02)


def unequal(**attributes):
    """Results with 500 clean, 500 corrupted and 181 held out examples."""
    tree = with_chance(make_tree())
    root = tree.to_dataset()
    root["probe_count"].loc[{"subset": "held_out"}] = 181
    tree.dataset = root
    tree.attrs |= attributes
    return tree


def test_all_subsets_are_shown_at_the_size_of_the_smallest():
    tree = unequal()
    shown, own = sizes.at_one_size(tree), tree["network"].to_dataset()
    assert sizes.shown_size(tree).quantity == "m-coherence of 181 examples"
    same = {"subset": "held_out"}
    for name in ("m_coherence", "m_coherence_stderr", "null_lower", "null_upper"):
        np.testing.assert_allclose(shown[name].sel(same), own[name].sel(same))
        factor = 180 / 499
        expected = own[name].sel(subset="clean")
        mapped = factor * expected if name.endswith("stderr") else 1 + factor * (expected - 1)
        np.testing.assert_allclose(shown[name].sel(subset="clean"), mapped)
        assert shown[name].dims == own[name].dims


def test_the_size_is_chosen():
    own = unequal()["network"].to_dataset()
    np.testing.assert_array_equal(
        sizes.at_one_size(sizes.shown_at(unequal(), "own"))["m_coherence"], own["m_coherence"]
    )
    alpha = sizes.at_one_size(sizes.shown_at(unequal(), "alpha"))
    clean = {"subset": "clean"}
    np.testing.assert_allclose(
        alpha["m_coherence"].sel(clean), (own["m_coherence"].sel(clean) - 1) / 499
    )
    np.testing.assert_allclose(
        alpha["m_coherence_stderr"].sel(clean), own["m_coherence_stderr"].sel(clean) / 499
    )
    fifty = sizes.shown_at(unequal(), "50")
    assert sizes.shown_size(fifty).quantity == "m-coherence of 50 examples"
    value = sizes.at_one_size(fifty, "layers")["m_coherence"].sel(clean)
    layers = fifty["layers"].to_dataset()["m_coherence"].sel(clean)
    np.testing.assert_allclose(value, 1 + 49 / 499 * (layers - 1))


def test_beyond_the_size_measured_no_interval_has_a_negative_end():
    tree = sizes.shown_at(unequal(), 5000)
    network = tree["network"].to_dataset()
    tree["network"].dataset = network.assign(
        m_coherence_lower=0.1 * network["m_coherence"] / network["m_coherence"],
        m_coherence_upper=network["m_coherence"] + 1,
    )
    assert float(sizes.at_one_size(tree)["m_coherence_lower"].min()) == 0.0


def test_a_single_example_sets_no_size_and_has_no_value_at_another():
    assert sizes.smallest(np.array([0, 1, 7, 30])) == 7
    assert sizes.smallest(np.array([0, 1])) == 0
    tree = unequal()
    root = tree.to_dataset()
    root["probe_count"].loc[{"subset": "held_out"}] = 1
    tree.dataset = root
    assert sizes.shown_size(tree).size == 500
    assert bool(sizes.at_one_size(tree)["m_coherence"].sel(subset="held_out").isnull().all())


def test_a_comparison_is_at_the_size_that_is_asked_for():
    sizes_of = {"layers": 2, "checkpoints": 3, "subsets": 1, "folds": 4}
    runs = {name: synthetic(seed=k, probes=30 + 10 * k, **sizes_of) for k, name in enumerate("abc")}
    options = {"different_probes": True, "groups": {"both": ["a", "b"]}}
    smallest, larger, alpha = (
        analyze.compare(runs, at_size=choice, **options) for choice in ("smallest", "80", "alpha")
    )
    assert [sizes.compared_at(tree) for tree in (smallest, larger, alpha)] == [30, 80, 30]
    runs_at = sizes.at_one_size(larger)["m_coherence"]
    unbiased = larger["network"]["alpha_unbiased"]
    np.testing.assert_allclose(runs_at, 1 + 79 * unbiased)
    mean = np.exp(np.log(runs_at.sel(run=["a", "b"])).mean("run"))
    groups = sizes.at_one_size(larger, "groups/network").sel(group="both")
    np.testing.assert_allclose(groups["m_coherence"], mean)
    ratio = np.log(runs_at.sel(run="c") / mean).transpose("checkpoint", "subset")
    np.testing.assert_allclose(larger["pairs/network"]["log_ratio"].isel(pair=0), ratio)
    # alpha is shown; what is tested stays at the smallest size
    np.testing.assert_allclose(
        alpha["pairs/network"]["p_value"], smallest["pairs/network"]["p_value"]
    )
    np.testing.assert_allclose(
        sizes.at_one_size(alpha)["m_coherence"], alpha["network"]["alpha_unbiased"], atol=1e-12
    )
    of_groups = [sizes.at_one_size(t, "groups/network")["m_coherence"] for t in (alpha, smallest)]
    np.testing.assert_allclose(of_groups[0], (of_groups[1] - 1) / 29)
    assert runs_over_training.draw(alpha, plt.figure().gca(), "all").get_ylabel() == (
        "unbiased alpha"
    )
    assert "of 30 examples" in pair_ratio.figure(alpha, "c / both").get_suptitle()


def test_runs_at_their_own_sizes_do_not_compare(tmp_path):
    with pytest.raises(InputError, match="each at its own m, do not compare") as refused:
        analyze.compare(["a.h5", "b.h5"], at_size="own")
    assert_three_facts(str(refused.value))


@pytest.mark.parametrize("choice", ["largest", "1", "0", "-5", "2.5", ""])
def test_other_sizes_are_refused(choice):
    with pytest.raises(InputError, match="cannot be shown at this size") as refused:
        sizes.shown_at(make_tree(), choice)
    assert_three_facts(str(refused.value))
