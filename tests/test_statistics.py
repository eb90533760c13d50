"""Coherence from sufficient statistics: closed forms, identities and the jackknife."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analyze.statistics import arrays, companions, noise_floor
from analyze.statistics.jackknife import (
    degrees_of_freedom,
    standard_error,
    t_quantile,
)
from analyze.statistics.sufficient import SufficientStatistics

FOLDS = 6


def statistics(gradients: np.ndarray, cell: np.ndarray, cells: int):
    """Gram matrix, squared norms and counts of the cells of some gradients ``[m, d]``."""
    sums = np.stack([gradients[cell == c].sum(0) for c in range(cells)])
    squares = np.array([(gradients[cell == c] ** 2).sum() for c in range(cells)])
    return sums @ sums.T, squares, np.bincount(cell, minlength=cells)


def everything(cells: int) -> np.ndarray:
    return np.ones((1, cells), dtype=bool)


def coherence(gradients: np.ndarray) -> tuple[float, float]:
    """M-coherence and unbiased alpha of gradients in one cell."""
    gram, squares, counts = statistics(gradients, np.zeros(len(gradients), int), 1)
    total = arrays.subset_dots(gram, everything(1))[0, 0]
    return (
        arrays.m_coherence(total, squares)[0],
        arrays.alpha_unbiased(total, squares, counts)[0],
    )


def test_orthogonal_gradients_have_coherence_one_whatever_their_norms():
    value, unbiased = coherence(np.diag([1.0, 2.0, 5.0, 0.1]))
    assert value == pytest.approx(1.0)
    assert unbiased == pytest.approx(0.0)


def test_equal_gradients_have_coherence_m():
    value, unbiased = coherence(np.tile([1.0, -2.0, 0.5], (7, 1)))
    assert value == pytest.approx(7.0)
    assert unbiased == pytest.approx(1.0)


def test_opposite_gradients_have_coherence_zero():
    value, unbiased = coherence(np.array([[1.0, 2.0], [-1.0, -2.0]]))
    assert value == 0.0
    assert unbiased == pytest.approx(-1.0)


def test_nothing_is_not_a_number():
    assert np.isnan(coherence(np.zeros((3, 2)))[0])
    assert np.isnan(coherence(np.ones((1, 2)))[1])


def test_examples_without_gradient_do_not_change_m_coherence():
    gradients = np.random.default_rng(0).normal(size=(20, 5))
    padded = np.concatenate([gradients, np.zeros((30, 5))])
    assert coherence(padded)[0] == pytest.approx(coherence(gradients)[0], rel=1e-12)


def test_union_formula():
    generator = np.random.default_rng(1)
    gradients = generator.normal(size=(30, 4)) + 0.3
    cell = np.repeat([0, 1], 15)
    gram, squares, _ = statistics(gradients, cell, 2)
    members = np.array([[True, False], [False, True], [True, True]])
    dots = arrays.subset_dots(gram, members)
    q = arrays.subset_squares(squares, members)
    value = arrays.m_coherence(np.diagonal(dots), q)
    union = (q[0] * value[0] + q[1] * value[1] + 2 * dots[0, 1]) / (q[0] + q[1])
    assert value[2] == pytest.approx(union, rel=1e-12)


def test_cosines():
    gram = np.array([[4.0, -2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = arrays.cosine(gram)
    assert found[0, 1] == pytest.approx(-1.0)
    assert np.isnan(found[2]).all()


def jackknife(gradients: np.ndarray, fold: np.ndarray) -> float:
    gram, squares, counts = statistics(gradients, fold, FOLDS)
    members = everything(FOLDS)
    sums = SufficientStatistics(gram, squares, counts, np.arange(FOLDS), members)
    return (len(fold) - 1) * standard_error(sums.alpha_replicates, sums.used)[0]


def test_standard_error_is_the_jackknife_written_out():
    """Against the definition on the gradients themselves, leaving out a fold at a time."""
    generator = np.random.default_rng(2)
    gradients = generator.normal(size=(60, 5)) + 0.5
    fold = generator.integers(0, FOLDS, 60)
    theta = np.array([coherence(gradients[fold != k])[1] for k in range(FOLDS)])
    expected = 59 * np.sqrt((FOLDS - 1) / FOLDS * ((theta - theta.mean()) ** 2).sum())
    assert jackknife(gradients, fold) == pytest.approx(expected, rel=1e-10)


def test_standard_error_is_about_the_spread_over_samples():
    generator = np.random.default_rng(3)
    direction = np.full(20, 0.3)
    values, errors = [], []
    for _ in range(300):
        gradients = generator.normal(size=(120, 20)) + direction
        values.append(coherence(gradients)[0])
        errors.append(jackknife(gradients, np.arange(120) % FOLDS))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.25)


def test_empty_folds_are_left_out_and_one_fold_gives_no_error():
    generator = np.random.default_rng(4)
    gradients = generator.normal(size=(40, 3)) + 1.0
    fold = generator.integers(0, 4, 40)  # folds 4 and 5 stay empty
    theta = np.array([coherence(gradients[fold != k])[1] for k in range(4)])
    expected = 39 * np.sqrt(3 / 4 * ((theta - theta.mean()) ** 2).sum())
    assert jackknife(gradients, fold) == pytest.approx(expected, rel=1e-10)
    assert np.isnan(jackknife(gradients, np.zeros(40, int)))


def two_subsets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of 30 examples, the cell of each and which cells each of three subsets has."""
    generator = np.random.default_rng(5)
    gradients = generator.normal(size=(30, 4)) * generator.gamma(2.0, size=(30, 1)) + 0.4
    cell = np.repeat([0, 1], 15) * FOLDS + np.arange(30) % FOLDS
    names = np.arange(2 * FOLDS) // FOLDS
    return gradients, cell, np.stack([names == 0, names == 1, names >= 0])


def test_replicates_are_the_statistics_without_a_fold():
    gradients, cell, members = two_subsets()
    fold = np.arange(2 * FOLDS) % FOLDS
    gram, squares, counts = statistics(gradients, cell, 2 * FOLDS)
    whole = SufficientStatistics(gram, squares, counts, fold, members)
    for k, left in enumerate(whole.replicates):
        rest = [gradients[members[s][cell] & (fold[cell] != k)] for s in range(3)]
        sums = np.stack([r.sum(0) for r in rest])
        np.testing.assert_allclose(left.dots, sums @ sums.T, rtol=1e-10)
        np.testing.assert_allclose(left.squares, [(r**2).sum() for r in rest], rtol=1e-10)
        np.testing.assert_array_equal(left.size, [len(r) for r in rest])
    dots = np.stack([left.dots for left in whole.replicates])
    norms = np.sqrt(np.diagonal(dots, axis1=1, axis2=2))
    expected = dots / (norms[:, :, None] * norms[:, None, :])
    spread = ((expected - expected.mean(0)) ** 2).sum(0)
    error = standard_error(whole.cosine_replicates, whole.used_pairs)
    np.testing.assert_allclose(error, np.sqrt((FOLDS - 1) / FOLDS * spread), rtol=1e-10)


def test_an_undefined_replicate_leaves_no_error():
    theta = np.array([[1.0, 2.0], [1.5, np.nan], [0.5, 1.0]])
    error = standard_error(theta, np.ones((3, 2), dtype=bool))
    assert np.isfinite(error[0])
    assert np.isnan(error[1])


def test_degrees_of_freedom():
    assert degrees_of_freedom(10, 1000) == pytest.approx(9)
    assert degrees_of_freedom(10, 1000, -1.2) == pytest.approx(9)
    assert degrees_of_freedom(10, 1000, np.nan) == pytest.approx(9)
    assert degrees_of_freedom(10, 1000, 400.0) == pytest.approx(2 / (2 / 9 + 0.4))
    assert degrees_of_freedom(1, 1000) == 0
    assert np.isnan(t_quantile(degrees_of_freedom(1, 1000)))


def test_mini_batches_by_enumeration():
    """All 4^3 batches of 3 of 4 gradients: alpha of their means is the formula's."""
    gradients = np.random.default_rng(6).normal(size=(4, 3)) + 0.5
    means = np.array([
        gradients[list(batch)].mean(0) for batch in itertools.product(range(4), repeat=3)
    ])  # fmt: skip

    def alpha(vectors: np.ndarray) -> float:
        return (vectors.mean(0) ** 2).sum() / (vectors**2).sum(1).mean()

    found = companions.batch_alpha(np.array(alpha(gradients)), 3)
    assert found == pytest.approx(alpha(means), rel=1e-10)
    assert companions.batch_alpha(np.array(0.3), 1) == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("removed", [0.0, 0.9])
def test_noise_scale_is_the_two_batch_estimator(removed):
    gradients = np.random.default_rng(7).normal(size=(50, 6)) + 0.5
    gradients -= removed * gradients.mean(0)
    value, unbiased = coherence(gradients)
    small, large = (gradients**2).sum(1).mean(), (gradients.mean(0) ** 2).sum()
    squared_norm = (50 * large - small) / (50 - 1)
    trace = (small - large) / (1 - 1 / 50)
    found = companions.noise_scale(np.array(value), np.array(50))
    assert found == pytest.approx(trace / squared_norm, rel=1e-10)
    assert found == pytest.approx((1 - unbiased) / unbiased, rel=1e-10)
    assert (found > 0) == (value > 1) == (removed == 0.0)


def test_coherence_at_another_size_is_that_of_subsamples_on_average():
    """``T/Q - 1`` grows like the size less one: exact for pairs, weighted by their energy."""
    gradients = np.random.default_rng(8).normal(size=(7, 3)) + 0.2
    pairs = [gradients[list(pair)] for pair in itertools.combinations(range(7), 2)]
    expected = sum((p.sum(0) ** 2).sum() for p in pairs) / sum((p**2).sum() for p in pairs)
    found = companions.coherence_at_size(np.array(coherence(gradients)[1]), 2)
    assert found == pytest.approx(expected, rel=1e-10)


def test_cross_help_is_the_mean_over_pairs_of_different_examples():
    gradients, cell, members = two_subsets()
    gram, squares, counts = statistics(gradients, cell, 2 * FOLDS)
    weights = members.astype(float)
    common = np.einsum("sc,tc,c->st", weights, weights, counts)
    shared = np.einsum("sc,tc,c->st", weights, weights, squares)
    dots = arrays.subset_dots(gram, members)
    found = companions.cross_help(dots, shared, weights @ counts, common)
    products, which = gradients @ gradients.T, members[:, cell]
    for a in range(3):
        for b in range(3):
            pairs = which[a][:, None] & which[b][None, :] & ~np.eye(30, dtype=bool)
            assert found[a, b] == pytest.approx(products[pairs].mean(), rel=1e-10)


def test_loss_drop_shares_add_up():
    gradients, cell, members = two_subsets()
    dots = arrays.subset_dots(statistics(gradients, cell, 2 * FOLDS)[0], members)
    share = companions.loss_drop_share(dots, 2)
    assert share[0] + share[1] == pytest.approx(1.0, rel=1e-10)
    assert share[2] == pytest.approx(1.0, rel=1e-12)


def test_what_examples_tell():
    equal, one = np.full(8, 2.0), np.array([5.0, 0, 0, 0, 0, 0, 0, 0])
    both = np.stack([equal, one])
    np.testing.assert_allclose(companions.effective_sample_size(both), [8, 1])
    np.testing.assert_allclose(companions.ceiling(both), [8, 1])
    np.testing.assert_allclose(companions.share_without_gradient(both), [0, 7 / 8])
    assert np.isnan(companions.excess_kurtosis(equal))
    gradients = np.outer([1.0, 2.0, 3.0], [0.6, 0.8])  # parallel: the ceiling is reached
    assert coherence(gradients)[0] == pytest.approx(companions.ceiling((gradients**2).sum(1)))
    normal = np.random.default_rng(9).normal(size=200_000)
    assert companions.excess_kurtosis(normal) == pytest.approx(0.0, abs=0.05)


def test_effective_dimension_is_that_of_the_definition():
    gradients, cell, members = two_subsets()
    fold = np.arange(2 * FOLDS) % FOLDS
    found = noise_floor.effective_dimension(*statistics(gradients, cell, 2 * FOLDS), members, fold)
    for s in range(3):
        own = members[s][cell]
        products = []
        for k, j in itertools.permutations(range(FOLDS), 2):
            a, b = (gradients[own & (fold[cell] == f)] for f in (k, j))
            products.append((a.sum(0) @ b.sum(0)) ** 2 / (len(a) * len(b)))
        energy = (gradients[own] ** 2).sum(1).mean()
        assert found[s] == pytest.approx(max(energy**2 / np.mean(products), 1.0), rel=1e-10)


def test_the_noise_floor_of_one_direction_is_chi_squared_with_one_degree():
    lower, upper = noise_floor.null_band(np.array(1.0))
    assert upper == pytest.approx(5.0239, abs=1e-4)
    assert lower == pytest.approx(0.00098, abs=1e-5)
    assert noise_floor.p_value(np.array(3.8415), np.array(1.0)) == pytest.approx(0.05, abs=1e-5)
    assert noise_floor.z_score(np.array(0.00135)) == pytest.approx(3.0, abs=1e-3)
    assert np.isfinite(noise_floor.z_score(np.array([0.0, 1.0]))).all()
    smallest = noise_floor.smallest_detectable(np.array([1.0, 50.0, np.nan]))
    p = noise_floor.p_value(smallest, np.array([1.0, 50.0, np.nan]))
    np.testing.assert_allclose(noise_floor.z_score(p[:2]), 3.0, rtol=1e-10)
    assert np.isnan(smallest[2])


def test_no_noise_floor_without_two_folds_or_without_gradient():
    gradients = np.random.default_rng(10).normal(size=(20, 3))
    single = statistics(gradients, np.zeros(20, int), 1)
    assert np.isnan(noise_floor.effective_dimension(*single, everything(1), np.zeros(1, int)))
    nothing = statistics(0 * gradients, np.arange(20) % 4, 4)
    assert np.isnan(noise_floor.effective_dimension(*nothing, everything(4), np.arange(4)))


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    p = np.array([[0.01, np.nan, 0.04], [0.03, 0.20, 0.50]])
    expected = [[0.05, np.nan, 0.2 / 3], [0.2 / 3, 0.25, 0.5]]
    np.testing.assert_allclose(noise_floor.adjusted(p), expected, rtol=1e-12)
    assert np.isnan(noise_floor.adjusted(np.full(3, np.nan))).all()
