"""Areas, average precision and the best of many: against definitions, and covered as they say."""

from __future__ import annotations

import numpy as np
import pytest

from analyze.statistics import detection

rng = np.random.default_rng


def drawn(seed: int, wrong: int = 30, right: int = 70, shift: float = 1.0, scores: int = 1):
    """Scores ``[M, N]`` and the truth; rounded, so that there are ties."""
    truth = np.arange(wrong + right) < wrong
    values = rng(seed).normal(size=(scores, len(truth))) + shift * truth
    return np.round(values, 1), truth


def area_by_pairs(scores, wrong) -> float:
    gap = scores[wrong][:, None] - scores[~wrong][None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_area_is_the_share_of_pairs_in_order(seed):
    scores, wrong = drawn(seed, scores=4)
    found = detection.areas(scores, wrong)
    expected = [area_by_pairs(s, wrong) for s in scores]
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    np.testing.assert_allclose(found.right.mean(1), expected, rtol=1e-12)


def test_examples_without_a_score_rank_last():
    wrong = np.array([True, True, False, False])
    found = detection.areas(np.array([[np.nan, 2.0, 1.0, -5.0]]), wrong)
    assert found.value == [0.5]
    assert detection.average_precision(np.array([np.nan, 2.0, 1.0, -5.0]), wrong) == 0.75


def test_average_precision_by_hand_and_with_ties():
    wrong = np.array([True, False, True, False])
    assert detection.average_precision(np.array([4.0, 3, 2, 1]), wrong) == (1 + 2 / 3) / 2
    assert detection.average_precision(np.ones(4), wrong) == 0.5  # nothing is told: the share
    assert detection.average_precision(np.array([2.0, 1, 2, 1]), wrong) == 1


def test_the_error_is_that_of_repeated_draws():
    truth, values, errors = 0.7602, [], []  # P(normal > 0) of a shift by 1 and a variance of 2
    covered = 0
    for seed in range(600):
        scores, wrong = drawn(seed)
        found = detection.areas(scores, wrong)
        values.append(found.value[0])
        errors.append(np.sqrt(found.variance[0]))
        lower, upper = found.interval
        covered += lower[0] <= truth <= upper[0]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.08)
    assert 550 <= covered <= 590


def test_a_perfect_score_has_no_interval_but_a_value():
    scores, wrong = np.array([[3.0, 2.0, 1.0, 0.0]]), np.array([True, True, False, False])
    found = detection.areas(scores, wrong)
    assert found.value == [1.0]
    assert np.isnan(found.interval).all()


def test_the_interval_of_average_precision_covers():
    big, truth = drawn(0, 30_000, 70_000)
    target = detection.average_precision(big[0], truth)
    covered = 0
    for seed in range(100):
        scores, wrong = drawn(seed + 1, 60, 140)
        weights = detection.drawn_again(wrong, draws=300)
        lower, upper = detection.average_precision_interval(scores[0], wrong, weights)
        covered += lower <= target <= upper
    assert 89 <= covered <= 100
    np.testing.assert_array_equal(weights, detection.drawn_again(wrong, draws=300))
    assert (weights[:, wrong].sum(1) == 60).all()
    assert (weights.sum(1) == 200).all()


def correlated(seed: int, count: int, better: float = 0.0, examples: int = 120):
    """Two families of candidates, all signal and own noise; the first of the second is better."""
    random = rng(seed)
    wrong = np.arange(examples) < 0.4 * examples
    signal = wrong + 0.6 * random.normal(size=examples)
    families = [signal + random.normal(size=(count, examples)) for _ in range(2)]
    families[0][0] = signal + (1.0 - better) * (families[0][0] - signal)
    return [detection.areas(f, wrong) for f in families]


def test_the_best_of_many_is_seldom_called_better_by_chance():
    """Where all candidates are equally good, in at most 5 % of cases; a plain test fails often."""
    corrected = plain = 0
    for seed in range(100):
        first, second = correlated(seed, 15)
        found = detection.best_against(first, second, draws=300)
        assert found.pairs == 225
        corrected += found.lower > 0 or found.upper < 0
        pair = [type(first)(*(v[[k]] for v in detection._fields(family)))
                for family, k in ((first, found.first), (second, found.second))]  # fmt: skip
        alone = detection.best_against(*pair, draws=300)
        plain += alone.lower > 0 or alone.upper < 0
        spread = np.ptp(np.concatenate([first.value, second.value]))
        assert found.upper - found.lower > 0 < spread
    assert corrected <= 5
    assert plain >= corrected


def test_the_widest_gap_of_many_is_seldom_significant_by_chance():
    """The bound holds for every pair at once: also for the one that looks best against worst."""
    found = 0
    for seed in range(100):
        first, second = correlated(seed, 15)
        best = detection.best_against(first, second, draws=300)
        critical = (best.upper - best.value) / np.sqrt(
            detection._variance_of_differences(first, second)[best.first, best.second]
        )
        error = np.sqrt(detection._variance_of_differences(first, second))
        found += (np.abs(first.value[:, None] - second.value[None, :]) / error > critical).any()
    assert found <= 11  # 5 % of 100, and three standard deviations


def test_a_true_advantage_is_found():
    found = [
        detection.best_against(*correlated(s, 15, better=0.95, examples=600), draws=300)
        for s in range(20)
    ]
    assert np.mean([f.lower > 0 for f in found]) > 0.8
    assert all(f.first == 0 for f in found if f.lower > 0)
    assert all(f.p_value <= 0.06 for f in found if f.lower > 0)


def test_candidates_that_rank_alike_do_not_differ():
    scores, wrong = drawn(0)
    one = detection.areas(scores, wrong)
    found = detection.best_against(one, detection.areas(2 * scores + 1, wrong))
    assert (found.value, found.pairs, found.p_value) == (0, 0, 1)
    assert (found.lower, found.upper) == (0, 0)
