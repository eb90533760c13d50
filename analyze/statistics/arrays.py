"""Coherence of gradients from sufficient statistics, on plain arrays.

Letters: ``C`` cells (subset x fold), ``S`` subsets, ``m`` examples of a subset, ``g_i`` the
gradient of example i. A subset's statistics are ``T = |sum_i g_i|^2`` and ``Q = sum_i |g_i|^2``;
both come from the cells: ``T`` is a sum of Gram entries, ``Q`` of squared norms. New axes come
first, so that parameters, layers and checkpoints ride along.

Source of the metric: Chatterjee and Zielinski, "Making Coherence Out of Nothing At All" (2020).
"""

from __future__ import annotations

import numpy as np


def subset_dots(gram: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Dot products of the subsets' gradient sums.

    Args:
        gram: ``[..., C, C]``, dot products of the cells' gradient sums.
        members: ``[S, C]``, whether a cell belongs to a subset; subsets may overlap.

    Returns:
        ``[..., S, S]``; the diagonal is ``T``.
    """
    weights = members.astype(float)
    return weights @ gram @ weights.T


def subset_squares(squared_norms: np.ndarray, members: np.ndarray) -> np.ndarray:
    """``Q`` of each subset, ``[..., S]``, from that of each cell, ``[..., C]``."""
    return squared_norms @ members.astype(float).T


def m_coherence(sum_squared: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """``T / Q``: 1 when gradients are orthogonal, m when all are equal; NaN where Q is 0."""
    return ratio(np.maximum(sum_squared, 0.0), squares)


def alpha(sum_squared: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``T / (m Q)``, between 0 and 1; biased upwards by ``(1 - alpha) / m``."""
    return ratio(m_coherence(sum_squared, squares), count)


def alpha_unbiased(sum_squared: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``(T - Q) / ((m - 1) Q)``, between -1/(m-1) and 1.

    Numerator and denominator are unbiased, so subsets of different size can be compared. NaN for
    a single example.
    """
    return ratio(m_coherence(sum_squared, squares) - 1.0, np.asarray(count) - 1.0)


def cosine(dots: np.ndarray) -> np.ndarray:
    """Cosines between the subsets' gradient sums, ``[..., S, S]``; NaN where one is zero."""
    norms = np.sqrt(np.maximum(np.diagonal(dots, axis1=-2, axis2=-1), 0.0))
    return ratio(dots, norms[..., :, None] * norms[..., None, :])


def m_coherence_stderr(
    gram: np.ndarray,
    squared_norms: np.ndarray,
    counts: np.ndarray,
    members: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Standard error of m-coherence by the jackknife over folds.

    With ``theta_(-k)`` the unbiased alpha of all folds but k,
    ``SE = (m - 1) sqrt((K - 1) / K * sum_k (theta_(-k) - mean theta)^2)``. Folds in which a subset
    has no example are left out; with fewer than two the error is NaN.

    Args:
        gram: ``[..., C, C]``.
        squared_norms: ``[..., C]``.
        counts: ``[C]``, examples of each cell.
        members: ``[S, C]``.
        fold: ``[C]``, the fold of each cell.

    Returns:
        ``[..., S]``. Cost: ``K * C * C * S`` for every entry of the leading axes.
    """
    occupied = members & (counts > 0)
    replicates = []
    for k in np.unique(fold):
        rest = (occupied & (fold != k)).astype(float)
        total = np.einsum("sc,...cd,sd->...s", rest, gram, rest, optimize=True)
        theta = alpha_unbiased(total, squared_norms @ rest.T, rest @ counts)
        used = (occupied & (fold == k)).any(1)  # [S]
        replicates.append(np.where(used, theta, np.nan))
    theta = np.stack(replicates)  # [K, ..., S]
    used = np.stack([(occupied & (fold == k)).any(1) for k in np.unique(fold)]).sum(0)  # [S]
    spread = np.nansum(np.square(theta - _mean(theta, used)), axis=0)
    known = np.isfinite(theta).sum(0) == used  # a replicate that is undefined leaves no error
    error = (members.astype(float) @ counts - 1.0) * np.sqrt(ratio((used - 1.0) * spread, used))
    return np.where(known & (used > 1), error, np.nan)


def _mean(theta: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mean over the folds that a subset occupies."""
    return ratio(np.nansum(theta, axis=0), used)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is NaN, without a warning, where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=float)
    safe = np.where(denominator == 0.0, np.nan, denominator)
    return np.asarray(numerator) / safe
