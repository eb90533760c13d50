"""Alignments of single examples with a direction: whom they help, and how sure a value is.

Letters: ``N`` examples with gradients ``g_i`` and ``q_i = |g_i|^2``; a direction ``v`` with
``a_i = g_i . v``; a group of m examples with the sum ``S``, ``T = |S|^2`` and ``Q`` the sum of its
``q_i``. For ``v = S`` the ``a_i`` of the group add up to ``T``. Everything is ``[..., N]``, so that
layers and checkpoints ride along. What is not known is NaN.

Source: ``a_i/q_i`` and its mean are the m-coherence of Chatterjee and Zielinski, "Making Coherence
Out of Nothing At All" (2020), by example; sums over checkpoints are TracIn (Pruthi et al., 2020).
"""

from __future__ import annotations

import numpy as np

from analyze.statistics.arrays import ratio
from analyze.statistics.companions import excess_kurtosis

ROUNDING = 1e-6  # of a squared norm: alignments are kept in float32


def helped_by(alignment: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """``h_i = a_i / q_i``: how many examples of the group gain from a step along ``g_i``.

    The mean over the group, weighted by ``q_i``, is ``T/Q``. NaN without a gradient.
    """
    return ratio(alignment, squares)


def leave_one_out(
    alignment: np.ndarray, squares: np.ndarray, member: np.ndarray | bool
) -> np.ndarray:
    """``g_i . (S - g_i)`` for a member of the group, ``g_i . S`` for any other: help to others.

    First-order drop of the summed loss of all others in the group, per unit of a step along
    ``g_i``. ``member`` is ``[N]``.
    """
    return alignment - np.where(member, squares, 0.0)


def cosine_with_others(
    alignment: np.ndarray, squares: np.ndarray, norm: np.ndarray, member: np.ndarray | bool
) -> np.ndarray:
    """Cosine between ``g_i`` and the direction without ``g_i``, between -1 and 1.

    ``(a_i - q_i) / (|g_i| |v - g_i|)`` for a member, ``a_i / (|g_i| |v|)`` else. ``norm`` is
    ``|v|``, ``[..., 1]``, or ``[..., N]`` where each example has a direction of its own. NaN where
    either vector is zero, or the rest of the group is smaller than the rounding of the alignments.
    """
    whole = np.square(np.asarray(norm, dtype=float))
    rest = np.where(member, whole - 2.0 * alignment + squares, whole)
    rest = np.where(rest > ROUNDING * (whole + squares), rest, np.nan)
    value = ratio(leave_one_out(alignment, squares, member), np.sqrt(squares * rest))
    return np.clip(value, -1.0, 1.0)


def share_helped(others: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Share of examples that help others, ``#{a_i > q_i} / #{q_i > 0}``, ``[..., N]`` to ``[...]``.

    ``others`` is ``leave_one_out``. Those without gradient do not count. NaN where one is unknown.
    """
    known = np.where(np.isnan(others) | np.isnan(squares), np.nan, (others > 0) & (squares > 0))
    return ratio(known.sum(-1), (squares > 0).sum(-1))


def delete_one(alignment: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Unbiased alpha without each example in turn, ``[..., m]``.

    ``(T - 2 a_i + 2 q_i - Q) / ((m - 2) (Q - q_i))``, exactly what the other m - 1 examples show.
    The examples are the whole group and ``a_i`` is taken with its sum. NaN for fewer than three.
    """
    count = alignment.shape[-1]
    if count < 3:
        return np.full(alignment.shape, np.nan)
    total, energy = alignment.sum(-1, keepdims=True), squares.sum(-1, keepdims=True)
    left = total - 2.0 * alignment + 2.0 * squares - energy
    return ratio(left, (count - 2.0) * (energy - squares))


def delete_one_error(alignment: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of a group's unbiased alpha, and its degrees of freedom, ``[...]`` each.

    ``SE^2 = (m - 1)/m sum_i (theta_(-i) - mean theta)^2`` of ``delete_one``: the jackknife over
    folds of one example. The variance of m terms is known to a relative variance of ``2/(m - 1) +
    kappa/m``, kappa the excess kurtosis of the ``theta_(-i)``, which gives the degrees of freedom
    ``2 / (2/(m - 1) + kappa/m)`` (Satterthwaite, 1946).

    Source: Efron and Stein, "The jackknife estimate of variance" (1981). Cost: O(N).
    """
    theta = delete_one(alignment, squares)
    count = theta.shape[-1]
    if count < 3:
        nothing = np.full(theta.shape[:-1], np.nan)
        return nothing, nothing
    spread = np.square(theta - theta.mean(-1, keepdims=True)).sum(-1)
    error = np.sqrt((count - 1.0) / count * spread)
    kurtosis = np.maximum(np.nan_to_num(excess_kurtosis(theta)), 0.0)
    degrees = 2.0 / (2.0 / (count - 1.0) + kurtosis / count)
    return error, np.where(np.isnan(error), np.nan, degrees)


def zero_sum_share(alignment: np.ndarray) -> np.ndarray:
    """``1 - |sum a_i| / sum |a_i|``: the share of the help that harm elsewhere cancels.

    0 where the direction helps all examples or harms all, 1 where the two are equal.
    """
    return 1.0 - ratio(np.abs(alignment.sum(-1)), np.abs(alignment).sum(-1))


def tracin(alignment: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """``sum_t eta_t a_it`` over checkpoints, ``[T, ..., N]`` to ``[..., N]``.

    For the direction of a group: the first-order drop of its summed loss by training on example i
    alone (TracInCP of Pruthi et al., 2020). Checkpoints without a value are left out; NaN where
    all are. ``rates`` is ``[T]``.
    """
    weighted = alignment * rates.reshape(-1, *[1] * (alignment.ndim - 1))
    known = np.isfinite(weighted)
    return np.where(known.any(0), np.where(known, weighted, 0.0).sum(0), np.nan)
