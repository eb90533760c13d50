"""Coherence from sufficient statistics: closed forms, identities and the jackknife."""

from __future__ import annotations

import numpy as np
import pytest

from analyze.statistics import arrays
from analyze.statistics.jackknife import replicates, standard_error

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
    left = replicates(gram, squares, counts, members, np.arange(FOLDS))
    return (len(fold) - 1) * standard_error(left.alpha_unbiased(), left.used)[0]


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
