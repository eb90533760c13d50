"""The noise floor: the coherence that chance shows when the mean gradient is zero.

Without a mean gradient, ``d_eff * T/Q`` follows the chi-squared distribution with ``d_eff``
degrees of freedom, where ``d_eff = (tr Sigma)^2 / tr Sigma^2`` is the number of directions that the
gradients' covariance spreads over. It does not depend on m: a layer of one weight shows T/Q above
3.8 in one case of twenty, however many examples are measured. The distribution is exact for equal
directions; else its mean and variance are right (Satterthwaite, 1946; Box, 1954).

Letters: ``K`` folds, ``C`` cells, ``S`` subsets, ``m`` examples, ``S_k`` a fold's gradient sum.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from analyze.statistics.arrays import LEVEL, ratio, subset_squares

DETECTED = 3.0  # z from which a value is said to be detected
SMALLEST_P = np.finfo(float).tiny  # keeps z finite: at most 37.5


def effective_dimension(
    gram: np.ndarray,
    squared_norms: np.ndarray,
    counts: np.ndarray,
    members: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """``d_eff = (Q/m)^2 / tr S2`` with ``tr S2 = mean_(k != l) (S_k . S_l)^2 / (n_k n_l)``.

    ``tr S2`` estimates ``tr Sigma^2`` without bias where the mean gradient is zero, as the test
    assumes. A mean gradient adds to it, so a signal widens the band and weakens the test, and never
    makes it reject too often. The result is at least 1, the least possible number of directions.
    The arguments are fields of ``SufficientStatistics``.

    Returns:
        ``[..., S]``; NaN with fewer than two folds, or where there is no gradient.
    """
    squares = subset_squares(squared_norms, members)  # [..., S]
    trace = np.stack([_squared_covariance(gram, counts, cells, fold) for cells in members], axis=-1)
    energy = ratio(squares, members.astype(float) @ counts)
    return np.maximum(ratio(np.square(energy), trace), 1.0)


def _squared_covariance(
    gram: np.ndarray, counts: np.ndarray, cells: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """``mean_(k != l) (S_k . S_l)^2 / (n_k n_l)`` of one subset, ``[...]``."""
    occupied = cells & (counts > 0)
    blocks = np.stack([occupied & (fold == k) for k in np.unique(fold[occupied])] or [occupied])
    size = blocks.astype(float) @ counts  # [K]
    dots = blocks.astype(float) @ gram @ blocks.T.astype(float)  # [..., K, K]
    different = ~np.eye(len(size), dtype=bool)
    if not different.any():
        return np.full(gram.shape[:-2], np.nan)
    products = np.square(dots) / np.maximum(size[:, None] * size[None, :], 1.0)
    return products[..., different].mean(-1)


def null_band(dimension: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % band of chance: quantiles of ``chi2(d_eff) / d_eff``."""
    lower, upper = (
        ratio(2.0 * special.gammaincinv(dimension / 2.0, share), dimension)
        for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    return lower, upper


def p_value(coherence: np.ndarray, dimension: np.ndarray) -> np.ndarray:
    """Probability of this m-coherence or a higher one, if the mean gradient is zero."""
    return special.chdtrc(np.where(dimension > 0, dimension, np.nan), dimension * coherence)


def z_score(p: np.ndarray) -> np.ndarray:
    """The normal quantile of a p-value: 3 for 0.00135; from -37.5 to 37.5."""
    return -special.ndtri(np.clip(p, SMALLEST_P, 1 - np.finfo(float).epsneg))


def adjusted(p: np.ndarray) -> np.ndarray:
    """P-values adjusted for the false discovery rate over the whole array; NaN stays NaN.

    Values of at most q after the adjustment hold a share q of false discoveries at most, on average
    (Benjamini and Hochberg, 1995), if the tests are not negatively dependent.
    """
    result = np.full(np.shape(p), np.nan)
    known = np.isfinite(p)
    rising = np.sort(p[known])
    scaled = rising * len(rising) / np.arange(1, len(rising) + 1)
    least = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)  # of this and larger ones
    result[known] = least[np.searchsorted(rising, p[known], side="right") - 1]
    return result


def adjusted_within(p: np.ndarray) -> np.ndarray:
    """P-values adjusted within each entry of the last axis, the subsets."""
    return np.stack([adjusted(p[..., k]) for k in range(p.shape[-1])], axis=-1)


def smallest_detectable(dimension: np.ndarray) -> np.ndarray:
    """The m-coherence with a z of ``DETECTED``; a true value of it is detected half of the time.

    As the unbiased alpha of m examples it is ``(value - 1) / (m - 1)``.
    """
    return ratio(special.chdtri(dimension, special.ndtr(-DETECTED)), dimension)
