"""Companions of m-coherence: the same sums as other known quantities, on plain arrays.

Letters as in ``arrays``: ``T = |sum_i g_i|^2``, ``Q = sum_i |g_i|^2``, ``C = T/Q`` the
m-coherence, m examples, ``alpha_u = (C - 1) / (m - 1)``, ``q_i = |g_i|^2``.
"""

from __future__ import annotations

import numpy as np

from analyze.statistics.arrays import ratio


def noise_scale(coherence: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Simple noise scale ``tr Sigma / |mean|^2 = (m - C) / (C - 1)``, in examples.

    From this batch size on, larger batches help little. It is ``(1 - alpha_u) / alpha_u``, and
    equals the two-batch estimator at batch sizes 1 and m (McCandlish et al., 2018, appendix A.1).
    Like that estimator it is negative where C is below 1: the mean gradient is lost in noise.
    """
    return ratio(count - coherence, coherence - 1.0)


def gradient_diversity(coherence: np.ndarray) -> np.ndarray:
    """``Q / T = 1 / C`` (Yin et al., 2018); NaN where the gradients cancel."""
    return ratio(np.ones_like(coherence), coherence)


def batch_alpha(alpha: np.ndarray, size: float) -> np.ndarray:
    """Alpha of the mean gradients of batches of size k: ``k alpha / (1 + (k - 1) alpha)``.

    Batches are drawn independently. It rises with the size from alpha to 1 (Chatterjee and
    Zielinski, 2020, theorem 3).
    """
    return ratio(size * alpha, 1.0 + (size - 1.0) * alpha)


def coherence_at_size(alpha_unbiased: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """The m-coherence that ``size`` examples are expected to show: ``1 + (size - 1) alpha_u``.

    For n drawn from the m measured without replacement, ``E Q_n = (n/m) Q`` and
    ``E T_n = (n/m) Q + n (n - 1)/(m (m - 1)) (T - Q)``, as each pair of examples is among the n
    with probability ``n (n - 1)/(m (m - 1))``. So ``E T_n / E Q_n = 1 + (n - 1) alpha_u`` is exact
    for n up to m; for fresh examples, and n above m, both expectations are estimated without bias.
    Not exact: the mean of ``T_n / Q_n`` itself is another number where norms differ, the more so
    the fewer examples decide Q. The standard error is that of ``alpha_u`` times ``size - 1``, as
    the map is straight: the error of this expectation from m examples, not the spread that n
    examples would show.

    Args:
        alpha_unbiased: ``alpha_u = (T/Q - 1)/(m - 1)`` of any shape.
        size: n, a number or an array that fits the shape.
    """
    return 1.0 + (size - 1.0) * alpha_unbiased


def cross_help(
    dots: np.ndarray, common_squares: np.ndarray, counts: np.ndarray, common: np.ndarray
) -> np.ndarray:
    """First-order drop of B's mean loss per unit step along A's mean gradient.

    ``(S_A . S_B - Q_AB) / (m_A m_B - m_AB)``, unbiased: squared norms ``Q_AB`` and number ``m_AB``
    of common examples are taken out, since an example's help to itself says nothing of others.

    Args:
        dots: ``[..., S, S]``, dot products of the subsets' gradient sums.
        common_squares: ``Q_AB``, ``[..., S, S]``.
        counts: ``m_A``, ``[S]``.
        common: ``m_AB``, ``[S, S]``.
    """
    return ratio(dots - common_squares, counts[:, None] * counts[None, :] - common)


def loss_drop_share(dots: np.ndarray, whole: int) -> np.ndarray:
    """Share of each subset in the first-order loss drop of the subset ``whole``, ``[..., S]``.

    ``S . S_A / T`` for the subset A and the sum S of the whole: adds up to 1 over parts of the
    whole (Chatterjee, 2020). Negative for a part that is pulled the other way; it blows up where
    T is near 0.
    """
    return ratio(dots[..., whole, :], dots[..., whole, whole, None])


def effective_sample_size(norms: np.ndarray) -> np.ndarray:
    """``n_Q = Q^2 / sum q_i^2``, how many examples decide the value (Kish, 1965); ``[..., N]``."""
    return ratio(np.square(norms.sum(-1)), np.square(norms).sum(-1))


def ceiling(norms: np.ndarray) -> np.ndarray:
    """``m_eff = (sum |g_i|)^2 / Q``, m-coherence if all gradients were parallel; at most m."""
    return ratio(np.square(np.sqrt(norms).sum(-1)), norms.sum(-1))


def share_without_gradient(norms: np.ndarray) -> np.ndarray:
    """Share of the examples whose gradient is zero, ``[...]``; NaN where a norm is."""
    return np.where(np.isnan(norms), np.nan, norms == 0.0).mean(-1)


def excess_kurtosis(norms: np.ndarray) -> np.ndarray:
    """Excess kurtosis of the squared norms, ``[...]``; NaN where all are equal."""
    centred = norms - norms.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1)
    return ratio(np.power(centred, 4).mean(-1), np.square(variance)) - 3.0
