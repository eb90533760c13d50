"""The one rule of significance, and the highest of several values."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analyze import statistics
from analyze.statistics import noise_floor, significance
from analyze.statistics.derived import derived
from analyze.statistics.highest import highest
from analyze.statistics.sufficient import SufficientStatistics
from tests.simulation import COUNT, normal_folds
from tests.synthetic import synthetic

SETS, VALUES = 150, 40


def group(alphas, dimension, seed=0):
    """Simulated values ``(checkpoint, subset)``: a row for each alpha, a column for each draw."""
    generator = np.random.default_rng(seed)
    drawn = [normal_folds(generator, SETS, 10, np.ones(dimension), alpha) for alpha in alphas]
    gram, squares = (np.stack(part) for part in zip(*drawn, strict=True))
    everything = np.ones((1, 10), dtype=bool)
    table = SufficientStatistics(gram, squares, np.full(10, COUNT // 10), np.arange(10), everything)
    columns = {
        "m_coherence": table.m_coherence, "m_coherence_upper": table.interval[1],
        "effective_dimension": table.effective_dimension, "p_value": table.p_value,
    }  # fmt: skip
    dataset = xr.Dataset({k: (("checkpoint", "subset"), v[..., 0]) for k, v in columns.items()})
    adjusted = noise_floor.adjusted_within(dataset["p_value"].values)
    return dataset.assign(p_value_adjusted=dataset["p_value"].copy(data=adjusted))


@pytest.mark.parametrize("dimension", [1, 4, 64])
def test_by_chance_hardly_any_series_of_values_agrees_or_cancels(dimension):
    """In 5 % of series at most on average; 150 series of 40 values are drawn."""
    drawn = group([0.0] * VALUES, dimension)
    assert significance.agree(drawn).any("checkpoint").mean() <= 0.08
    assert significance.cancel(drawn).any("checkpoint").mean() <= 0.08
    assert bool(significance.tested(drawn).all())


def test_a_signal_agrees_and_what_opposes_itself_cancels():
    drawn = group([0.0, 0.02, 0.2], 50)
    assert significance.agree(drawn).mean("subset").values.tolist() == [
        pytest.approx(0.05, abs=0.05), 1.0, 1.0
    ]  # fmt: skip
    assert not significance.cancel(drawn).any()
    # As near a minimum: the sums of the folds, and with them the sum of all, are a fifth as long.
    gram, squares = normal_folds(np.random.default_rng(1), SETS, 10, np.ones(50))
    sums = SufficientStatistics(
        gram / 25, squares, np.full(10, COUNT // 10), np.arange(10), np.ones((1, 10), dtype=bool)
    )
    assert np.median(sums.m_coherence) < 0.1
    opposed = drawn.isel(checkpoint=[0]).assign(
        m_coherence=(("checkpoint", "subset"), sums.m_coherence.T),
        m_coherence_upper=(("checkpoint", "subset"), sums.interval[1].T),
        p_value_adjusted=(("checkpoint", "subset"), np.ones((1, SETS))),
    )
    assert bool(significance.cancel(opposed).all())
    assert not bool(significance.within_chance(opposed).any())


def test_nothing_is_said_of_what_was_not_tested():
    bare = group([0.2], 5)[["m_coherence"]]
    for rule in (significance.tested, significance.agree, significance.cancel,
                 significance.within_chance):  # fmt: skip
        assert not bool(rule(bare).any())


@pytest.fixture(scope="module")
def tree():
    return synthetic(
        layers=3, checkpoints=4, subsets=["clean", "held_out"], probes=200, folds=6, strength=3.0
    )


def test_the_network_and_its_layers_follow_one_rule(tree):
    for name in ("network", "layers"):
        dataset = tree[name].to_dataset()
        expected = dataset["p_value_adjusted"] <= 0.05
        xr.testing.assert_equal(significance.agree(dataset), expected)
        chance = statistics.warnings.flagged(dataset, "within_chance")
        np.testing.assert_array_equal(chance, significance.within_chance(dataset))


@pytest.mark.parametrize("name", ["network", "layers"])
def test_the_highest_is_compared_with_the_next(tree, name):
    dataset = tree[name].to_dataset().sel(subset="all")
    found = highest(tree, "all", name)
    assert float(dataset["m_coherence"].sel(found.at)) == float(dataset["m_coherence"].max())
    over = "checkpoint" if name == "network" else "layer"
    rest = dataset["m_coherence"].drop_sel({over: found.at[over]})
    assert float(dataset["m_coherence"].sel(found.next_at)) == float(rest.max())
    alpha = statistics.estimate(tree, layers=name).sel(subset="all")
    alpha = alpha.assign_coords(checkpoint=tree["checkpoint"])
    gap = statistics.difference(alpha.sel(found.next_at), alpha.sel(found.at))
    t = float(gap["value"] / gap["stderr"])
    assert t > 0
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, float(gap["degrees_of_freedom"])))
    assert found.alone == (found.p_value <= 0.05)


def test_two_layers_of_the_same_gradients_are_not_told_apart():
    tree = synthetic(layers=2, checkpoints=3, subsets=["clean"], probes=200, folds=6, strength=3.0)
    table = tree["parameters"].to_dataset()
    for name in ("gradient_gram", "gradient_sqnorm"):
        first = table[name].isel(parameter=0, drop=True)
        table[name].loc[{"parameter": table["parameter"].values[1]}] = first
    tree["parameters"] = xr.DataTree(table)
    for name, group in derived(tree).items():
        kept = {k: c for k, c in tree[name].coords.items() if k not in group.coords}
        tree[name] = xr.DataTree(group.assign_coords(kept))
    assert not highest(tree, "all", "layers").alone


def test_where_nothing_agrees_there_is_no_highest():
    quiet = synthetic(
        layers=3, checkpoints=3, subsets=["clean"], strength=0.0, probes=60, folds=6, seed=1
    )
    assert not bool(significance.agree(quiet["network"].to_dataset()).any())
    assert highest(quiet, "all") is None
    assert highest(quiet, "all", "layers") is None


def test_a_highest_of_one_is_alone():
    tree = synthetic(layers=1, checkpoints=3, subsets=["clean"], probes=200, folds=6, strength=3.0)
    found = highest(tree, "clean", "layers")
    assert found.next_at is None
    assert found.alone
