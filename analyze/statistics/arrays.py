"""Coherence of gradients from sufficient statistics, on plain arrays.

Letters: ``C`` cells (subset x fold), ``S`` subsets, ``m`` examples of a subset, ``g_i`` the
gradient of example i. A subset's statistics are ``T = |sum_i g_i|^2`` and ``Q = sum_i |g_i|^2``;
both come from the cells: ``T`` is a sum of Gram entries, ``Q`` of squared norms. New axes come
first, so that parameters, layers and checkpoints ride along.

Source of the metric: Chatterjee and Zielinski, "Making Coherence Out of Nothing At All" (2020).
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.95  # the level of intervals and of the band of chance


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
    """``Q`` of each subset, ``[..., S]``, from the squared norms of cells, ``[..., C]``."""
    return squared_norms @ members.astype(float).T


def m_coherence(sum_squared: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """``T / Q``: 1 for orthogonal gradients, m for equal ones; NaN where Q is 0."""
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
    """Cosines between the subsets' gradient sums, ``[..., S, S]``; NaN where a sum is zero."""
    norms = np.sqrt(np.maximum(np.diagonal(dots, axis1=-2, axis2=-1), 0.0))
    return ratio(dots, norms[..., :, None] * norms[..., None, :])


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is NaN, without a warning, where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=float)
    safe = np.where(denominator == 0.0, np.nan, denominator)
    return np.asarray(numerator) / safe
