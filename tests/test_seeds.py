"""Configurations over their seeds: geometric means, Welch's test, and what few seeds can tell."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analyze.statistics.seeds import Seeds, equal_means, geometric_mean, log_ratio_over_seeds

DRAWS = 20_000


def coherence(generator, runs: int, spread: float, mean: float = 1.0) -> xr.DataArray:
    """M-coherence of seeds, log-normal, of one checkpoint a draw."""
    values = np.exp(mean + spread * generator.standard_normal((runs, DRAWS, 1)))
    return xr.DataArray(values, dims=("run", "checkpoint", "subset"), coords={"subset": ["all"]})


def test_the_mean_is_geometric_and_its_interval_that_of_student():
    values = np.array([[2.0], [8.0], [4.0]])
    mean, lower, upper, number = geometric_mean(values, 100)
    logarithm = np.log(values[:, 0])
    half = stats.t.ppf(0.975, 2) * logarithm.std(ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(mean, 4.0)
    np.testing.assert_allclose(
        [lower[0], upper[0]], np.exp(logarithm.mean() + half * np.array([-1, 1]))
    )
    assert number == 3
    assert lower > 0
    assert upper > 12
    bounded = geometric_mean(values, 12)  # of 12 examples, which are all that can agree
    assert [float(end[0]) for end in bounded[:3]] == [mean[0], lower[0], 12.0]


def test_a_run_without_a_value_does_not_count_and_one_run_has_no_interval():
    values = np.array([[2.0, 3.0, np.nan], [8.0, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    mean, lower, _, number = geometric_mean(values, 100)
    np.testing.assert_array_equal(number, [2, 1, 0])
    np.testing.assert_allclose(mean, [4.0, 3.0, np.nan])
    np.testing.assert_array_equal(np.isfinite(lower), [True, False, False])


@pytest.mark.parametrize("lowest", [0.0, -0.3])
def test_where_a_run_is_at_or_below_zero_there_is_neither_mean_nor_ratio(lowest):
    values = np.array([[2.0, 2.0], [8.0, 8.0], [lowest, np.nan]])
    *of_mean, number = geometric_mean(values, 100)
    np.testing.assert_array_equal(number, [3, 2])
    for one in of_mean:  # that of the two others would be too high
        np.testing.assert_array_equal(np.isfinite(one), [False, True])
    a = xr.DataArray(
        values[:, :, None], dims=("run", "checkpoint", "subset"), coords={"subset": ["all"]}
    )
    for found in (log_ratio_over_seeds(a, a + 2), log_ratio_over_seeds(a + 2, a)):
        for name in ("log_ratio", "log_ratio_lower", "log_ratio_upper", "p_value"):
            np.testing.assert_array_equal(np.isfinite(found[name][:, 0]), [False, True])


def test_intervals_cover_the_geometric_mean():
    drawn = coherence(np.random.default_rng(0), 4, 0.4).values
    _, lower, upper, _ = geometric_mean(drawn, 100)
    assert 0.945 < ((lower <= np.e) & (np.e <= upper)).mean() < 0.955


@pytest.mark.parametrize(
    ("runs", "spreads", "low", "high"),
    [
        ((4, 4), (0.3, 0.3), 0.035, 0.05),
        ((3, 6), (0.6, 0.2), 0.04, 0.07),  # the smaller one spreads more: equal variances give 0.16
        ((2, 2), (0.3, 0.3), 0.01, 0.05),
    ],
)
def test_equal_configurations_differ_at_the_nominal_rate_at_most(runs, spreads, low, high):
    generator = np.random.default_rng(1)
    a, b = (coherence(generator, n, s) for n, s in zip(runs, spreads, strict=True))
    found = log_ratio_over_seeds(a, b)
    assert low < float((found["p_value"] < 0.05).mean()) < high
    assert float((found["p_value_adjusted"] < 0.05).mean()) < 0.005


def test_the_test_is_that_of_welch():
    generator = np.random.default_rng(2)
    a, b = coherence(generator, 3, 0.5)[:, :5], coherence(generator, 5, 0.2, 1.4)[:, :5]
    found = log_ratio_over_seeds(a, b)
    expected = stats.ttest_ind(np.log(b.values), np.log(a.values), axis=0, equal_var=False)
    np.testing.assert_allclose(found["p_value"], expected.pvalue)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found["log_ratio_lower"], interval.low)
    np.testing.assert_allclose(found["log_ratio_upper"], interval.high)


def test_two_seeds_tell_a_difference_of_a_factor_of_two_rarely():
    generator = np.random.default_rng(3)
    few, many = (
        log_ratio_over_seeds(coherence(generator, n, 0.3), coherence(generator, n, 0.3, 1.7))
        for n in (2, 5)
    )
    assert float((few["p_value"] < 0.05).mean()) < 0.25
    assert float((many["p_value"] < 0.05).mean()) > 0.85


def test_a_run_alone_is_judged_by_the_spread_of_the_others():
    generator = np.random.default_rng(4)
    base, alone = coherence(generator, 4, 0.3), coherence(generator, 1, 0.3)
    for found in (log_ratio_over_seeds(base, alone), log_ratio_over_seeds(alone, base)):
        assert 0.045 < float((found["p_value"] < 0.05).mean()) < 0.055
    neither = log_ratio_over_seeds(alone, alone)
    assert neither["p_value"].isnull().all()
    assert (neither["log_ratio"] == 0).all()


def test_copies_are_no_seeds():
    copies = xr.DataArray(
        np.full((3, 2, 1), 5.0), dims=("run", "checkpoint", "subset"), coords={"subset": ["all"]}
    )
    assert np.isnan(Seeds.of(copies.values).variance).all()
    found = log_ratio_over_seeds(copies, 2 * copies)
    np.testing.assert_allclose(found["log_ratio"], np.log(2))
    assert found["p_value"].isnull().all()


def test_equal_means_are_those_of_the_analysis_of_variance():
    generator = np.random.default_rng(5)
    values, code = generator.standard_normal((7, 3)), np.array([4, 4, 4, 9, 9, 1, 1])
    expected = stats.f_oneway(*(values[code == k] for k in (4, 9, 1)), axis=0)
    np.testing.assert_allclose(equal_means(values, code), expected.pvalue)
    assert np.isnan(equal_means(values, np.zeros(7))).all()
    assert np.isnan(equal_means(values, np.arange(7))).all()
