"""Standard errors and intervals by the jackknife over folds, on plain arrays.

Letters: ``K`` folds, ``m`` examples of a subset. A replicate leaves one fold out of every subset,
see ``SufficientStatistics.replicates``. Every function of the sufficient statistics can be computed
from a replicate, so one formula gives the error of all:

    SE^2 = (K - 1) / K * sum_k (theta_(-k) - mean theta)^2

The replicates of a difference are differences of replicates, so noise that two estimates share
cancels, as between two checkpoints with the same probes.

Source: Efron and Stein, "The jackknife estimate of variance" (1981); for blocks Shao and Wu, "A
general theory for jackknife variance estimation" (1989).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from analyze.statistics.arrays import LEVEL, ratio


def standard_error(theta: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The jackknife's standard error of an estimate from its replicates.

    Args:
        theta: ``[K, ...]``, the estimate without each fold.
        used: ``[K, ...]``, aligned with the last axes of ``theta``: which replicates count.

    Returns:
        ``[...]``; NaN with fewer than two replicates that count, or where one is undefined.
    """
    used = used.reshape(len(used), *[1] * (theta.ndim - used.ndim), *used.shape[1:])
    used = np.broadcast_to(used, theta.shape)
    number = used.sum(0)
    known = np.where(used, theta, 0.0)
    mean = ratio(known.sum(0), number)
    spread = np.where(used, np.square(theta - mean), 0.0).sum(0)
    return np.where(number > 1, np.sqrt(ratio((number - 1.0) * spread, number)), np.nan)


def degrees_of_freedom(
    folds: np.ndarray, count: np.ndarray, kurtosis: np.ndarray | float = 0.0
) -> np.ndarray:
    """Degrees of freedom of the jackknife's variance: ``2 / (2 / (K - 1) + kappa / m)``.

    The variance of m / K examples summed in each of K blocks is known to a relative variance of
    ``2 / (K - 1)`` for normal gradients, and of ``kappa / m`` more where single examples stand
    out; a chi-squared variable of that relative variance has these degrees of freedom
    (Satterthwaite, 1946). K - 1 without a kurtosis.

    Args:
        folds: Folds in which the subset has examples.
        count: Its examples, m.
        kurtosis: kappa, excess kurtosis of the examples' squared norms; below 0 or NaN counts as 0.
    """
    folds, count = np.asarray(folds, dtype=float), np.asarray(count, dtype=float)
    excess = np.maximum(np.nan_to_num(kurtosis), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(folds > 1, 2.0 / (2.0 / (folds - 1.0) + excess / count), 0.0)


def t_quantile(degrees: np.ndarray | float) -> np.ndarray | float:
    """The two-sided 95 % quantile of Student's t; NaN for no degree of freedom."""
    degrees = np.asarray(degrees, dtype=float)
    safe = np.where(degrees > 0, degrees, np.nan)
    return special.stdtrit(safe, 0.5 + LEVEL / 2)[()]


def root_interval(
    value: np.ndarray, error: np.ndarray, degrees: np.ndarray, most: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of what lies from 0 to ``most``: a t interval of its square root.

    ``(max(sqrt(c) - h, 0)^2, min((sqrt(c) + h)^2, most))`` with ``h = t * error / (2 sqrt(c))``,
    the error of the root to first order. M-coherence is the square of a gradient sum's length,
    whose error hardly depends on its size: the interval stays where values can be, and covers where
    that of the value itself does not (see the ADR on intervals of the root). NaN where there is no
    error, or where the value is 0 and has none.
    """
    root = np.sqrt(np.maximum(value, 0.0))
    half = ratio(t_quantile(degrees) * error, 2.0 * root)
    upper = np.minimum(np.square(root + half), np.maximum(most, value))
    return np.square(np.maximum(root - half, 0.0)), upper
