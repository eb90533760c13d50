"""Errors, intervals and the noise floor on gradients whose truth is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from analyze.statistics import alignment, companions, jackknife, noise_floor
from analyze.statistics.sufficient import SufficientStatistics
from tests.nightly import of_every_run
from tests.simulation import COUNT, HeavyFolds, correlated_folds, normal_folds, single_examples

DRAWS = 4000
DIMENSION = 50
ALPHAS = (0.0, 0.02, 0.2)


def estimated(gram, squares):
    """Unbiased alpha, its replicates and which of them count; all examples are one subset."""
    folds = gram.shape[-1]
    counts, everything = np.full(folds, COUNT // folds), np.ones((1, folds), dtype=bool)
    sums = SufficientStatistics(gram, squares, counts, np.arange(folds), everything)
    return sums.alpha_unbiased[..., 0], sums.alpha_replicates[..., 0], sums.used[:, 0]


def p_values(gram, squares):
    """Of the test for a mean gradient, one for each draw."""
    folds = gram.shape[-1]
    counts, everything = np.full(folds, COUNT // folds), np.ones((1, folds), dtype=bool)
    dimension = noise_floor.effective_dimension(gram, squares, counts, everything, np.arange(folds))
    return noise_floor.p_value(gram.sum((1, 2)) / squares.sum(1), dimension[:, 0])


def covered(alpha, value, error, degrees, count=COUNT):
    """The share of draws whose interval of m-coherence holds the true one."""
    scale = count - 1
    ends = jackknife.root_interval(1 + scale * value, scale * error, degrees, count)
    return np.mean((ends[0] <= 1 + scale * alpha) & (1 + scale * alpha <= ends[1]))


@pytest.fixture(scope="module")
def heavy():
    return HeavyFolds(np.random.default_rng(11), DRAWS, 20, DIMENSION, 0.8)


@pytest.mark.parametrize("folds", [10, 20])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_equal_norms_unbiased_and_covered(alpha, folds):
    generator = np.random.default_rng(1)
    gram, squares = normal_folds(generator, DRAWS, folds, np.ones(DIMENSION), alpha)
    value, theta, used = estimated(gram, squares)
    assert abs(value.mean() - alpha) < 4 * value.std() / np.sqrt(DRAWS)
    degrees = jackknife.degrees_of_freedom(folds, COUNT)
    share = covered(alpha, value, jackknife.standard_error(theta, used), degrees)
    assert 0.90 <= share <= 0.999


@pytest.mark.parametrize("folds", [10, 20])
@pytest.mark.parametrize(("alpha", "least"), [(0.0, 0.90), (0.02, 0.90), (0.2, 0.88)])
def test_heavy_norms_are_covered_and_better_than_plainly(heavy, alpha, least, folds):
    gram, squares, examples = heavy.at(alpha, folds)
    value, theta, used = estimated(gram, squares)
    error = jackknife.standard_error(theta, used)
    kurtosis = companions.excess_kurtosis(examples)
    share = covered(alpha, value, error, jackknife.degrees_of_freedom(folds, COUNT, kurtosis))
    plain = covered(alpha, value, error, jackknife.degrees_of_freedom(folds, COUNT))
    assert share >= least
    assert share > plain


@pytest.mark.parametrize(("dimension", "plainly"), [(1, 0.82), (2, 0.91), (5, 0.94)])
def test_intervals_cover_in_few_directions_where_plain_ones_miss(dimension, plainly):
    """There a coherence near 0 has a small error, so ``value -+ t error`` ends far too early."""
    degrees = jackknife.degrees_of_freedom(10, COUNT)
    shares = []
    for alpha in (0.0, 0.002, 0.02, 0.2):
        sums = normal_folds(np.random.default_rng(8), DRAWS // 2, 10, np.ones(dimension), alpha)
        value, theta, used = estimated(*sums)
        error = jackknife.standard_error(theta, used)
        plain = np.abs(value - alpha) <= jackknife.t_quantile(degrees) * error
        shares.append([covered(alpha, value, error, degrees), plain.mean()])
    worst = np.min(shares, axis=0)
    assert worst[0] >= 0.935
    assert worst[1] <= plainly


def test_an_interval_of_what_is_never_negative_has_no_negative_end():
    values, errors = np.array([0.0, 0.01, 1.0, 9.0]), np.array([0, 3, 2, 0.1])
    ends = jackknife.root_interval(values, errors, 9.0, 20)
    assert np.isnan(ends[0][0])
    assert ends[0][1:3].tolist() == [0.0, 0.0]
    half = jackknife.t_quantile(9.0) * 0.1
    np.testing.assert_allclose([ends[0][3], ends[1][3]], [9 - half, 9 + half], rtol=1e-3)
    capped = jackknife.root_interval(values, errors, 9.0, 9.1)
    assert capped[1][3] == 9.1
    np.testing.assert_array_equal(capped[0], ends[0])


@pytest.mark.parametrize("folds", [10, 20])
def test_chance_with_heavy_norms(heavy, folds):
    gram, squares, _ = heavy.at(0.0, folds)
    p = p_values(gram, squares)
    assert np.mean(noise_floor.z_score(p) > 3) <= 0.003
    assert 0.04 <= np.mean(p < 0.05) <= 0.062


@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("alpha", [0.0, 0.002, 0.02, 0.05, 0.2])
def test_error_of_a_paired_difference(alpha, correlation):
    """Within 10 % of the true spread from alpha 0.02 on; below never too small, and paired."""
    gram, squares = correlated_folds(
        np.random.default_rng(2), DRAWS, 10, DIMENSION, (alpha, 1.1 * alpha), correlation
    )
    value, theta, used = estimated(gram, squares)  # [2, draws], [K, 2, draws]
    error = jackknife.standard_error(theta[:, 1] - theta[:, 0], used)
    ratio = error.mean() / (value[1] - value[0]).std()
    assert ratio > (0.9 if alpha >= 0.02 else 1.0)
    if alpha >= 0.02:
        assert ratio < 1.1
        alone = jackknife.standard_error(theta, used).mean(1)
        assert error.mean() < np.hypot(*alone)


def by_single_examples(alpha, sigma):
    """Unbiased alpha of 1000 draws of 400 examples, its error and degrees of freedom."""
    a, q = single_examples(np.random.default_rng(7), 1000, 400, DIMENSION, alpha, sigma)
    value = (a.sum(1) / q.sum(1) - 1) / 399
    return value, *alignment.delete_one_error(a, q)


@pytest.mark.parametrize("sigma", [0.0, 0.8])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_errors_by_single_examples_cover(alpha, sigma):
    value, error, degrees = by_single_examples(alpha, sigma)
    least = 0.93 if sigma == 0 or alpha < 0.2 else 0.86
    assert least <= covered(alpha, value, error, degrees, 400) <= 0.999


@pytest.mark.parametrize(("alpha", "sigma"), [(0.02, 0.0), (0.2, 0.0), (0.02, 0.8)])
def test_errors_by_single_examples_are_the_true_spread(alpha, sigma):
    """Within 10 %; near alpha = 0 too wide, never too narrow, as over folds."""
    value, error, _ = by_single_examples(alpha, sigma)
    assert error.mean() == pytest.approx(value.std(), rel=0.1)
    value, error, _ = by_single_examples(0.0, sigma)
    assert error.mean() > value.std()


SPECTRA = {str(d): np.ones(d) for d in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)}
SPECTRA["power law"] = np.arange(1, 33.0) ** -1.5


@cache
def by_chance(name: str, folds: int) -> np.ndarray:
    """P-values without a mean gradient, by spectrum and folds."""
    spectrum, generator = SPECTRA[name], np.random.default_rng(3)
    draws = 20_000 if len(spectrum) <= 32 else DRAWS
    return p_values(*normal_folds(generator, draws, folds, spectrum))


@pytest.mark.parametrize("folds", of_every_run([10, 20], {"10"}))
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_chance_seldom_reaches_z_above_3(spectrum, folds):
    p = by_chance(spectrum, folds)
    assert np.mean(noise_floor.z_score(p) > 3) <= 0.003
    assert 0.04 <= np.mean(p < 0.05) <= 0.062


def test_the_normal_form_of_the_noise_floor_is_wrong_for_small_layers():
    """``(T/Q - 1) sqrt(d_eff / 2)`` as z, with d_eff known: why it is not used."""
    gram, squares = normal_folds(np.random.default_rng(4), 20_000, 10, np.ones(1))
    z = (gram.sum((1, 2)) / squares.sum(1) - 1) / np.sqrt(2)
    assert np.mean(z > 3) > 0.015


@pytest.mark.parametrize("folds", [10, 20])
def test_a_signal_is_found_however_strong(folds):
    """The mean gradient adds to the estimate of the covariance, but does not hide itself."""
    for alpha in (0.02, 0.2, 0.9):
        sums = normal_folds(np.random.default_rng(5), 500, folds, np.ones(50), alpha)
        assert (noise_floor.z_score(p_values(*sums)) > 3).all()


def test_false_discoveries_are_few_among_many_layers():
    """Of 200 layers a tenth has a signal: at a rate of 5 %, that share of the finds is false."""
    generator = np.random.default_rng(6)
    shares, power = [], []
    for _ in range(30):
        chance = normal_folds(generator, 180, 10, np.ones(30))
        signal = normal_folds(generator, 20, 10, np.ones(30), 0.01)
        p = p_values(*(np.concatenate(pair) for pair in zip(chance, signal, strict=True)))
        found = noise_floor.adjusted(p) <= 0.05
        shares.append(found[:180].sum() / max(1, found.sum()))
        power.append(found[180:].mean())
    assert np.mean(shares) <= 0.05
    assert np.mean(power) > 0.9
