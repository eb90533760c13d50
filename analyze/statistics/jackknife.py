"""Standard errors and intervals by the jackknife over folds, on plain arrays.

Letters: ``K`` folds, ``C`` cells, ``S`` subsets, ``m`` examples of a subset. A replicate is what
is left of every subset without one fold; whatever can be computed from the sufficient statistics
can be computed from a replicate, so one formula gives the error of all of them:

    SE^2 = (K - 1) / K * sum_k (theta_(-k) - mean theta)^2

and the replicates of a difference are the differences of replicates: what two estimates share, as
two checkpoints share their probes, cancels.

Source: Efron and Stein, "The jackknife estimate of variance" (1981); for blocks Shao and Wu, "A
general theory for jackknife variance estimation" (1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analyze.statistics.arrays import alpha_unbiased, cosine, ratio, subset_dots, subset_squares


@dataclass(frozen=True)
class Replicates:
    """The sufficient statistics of every subset without one fold.

    Args:
        dots: ``[K, ..., S, S]``, dot products of the subsets' gradient sums.
        squares: ``[K, ..., S]``, sums of squared norms.
        counts: ``[K, S]``, examples left.
        used: ``[K, S]``, whether the subset has examples in the fold; the other replicates are
            the subset itself and do not count.
    """

    dots: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    used: np.ndarray

    def alpha_unbiased(self) -> np.ndarray:
        """Unbiased alpha of each replicate, ``[K, ..., S]``."""
        count = self.counts.reshape(len(self.counts), *[1] * (self.squares.ndim - 2), -1)
        total = np.diagonal(self.dots, axis1=-2, axis2=-1)
        return alpha_unbiased(total, self.squares, count)

    def cosine(self) -> np.ndarray:
        """Cosine between subsets of each replicate, ``[K, ..., S, S]``."""
        return cosine(self.dots)

    @property
    def used_pairs(self) -> np.ndarray:
        """``[K, S, S]``, whether a fold has examples of either subset."""
        return self.used[:, :, None] | self.used[:, None, :]


def replicates(
    gram: np.ndarray,
    squared_norms: np.ndarray,
    counts: np.ndarray,
    members: np.ndarray,
    fold: np.ndarray,
) -> Replicates:
    """Leave one fold out of every subset at a time.

    Args:
        gram: ``[..., C, C]``, dot products of the cells' gradient sums.
        squared_norms: ``[..., C]``, sums of squared norms.
        counts: ``[C]``, examples of each cell.
        members: ``[S, C]``, whether a cell belongs to a subset; subsets may overlap.
        fold: ``[C]``, the fold of each cell.

    Cost: ``K * S * C * C`` for every entry of the leading axes.
    """
    names = np.unique(fold)
    rest = [members & (fold != k) for k in names]
    return Replicates(
        np.stack([subset_dots(gram, which) for which in rest]),
        np.stack([subset_squares(squared_norms, which) for which in rest]),
        np.stack([which.astype(float) @ counts for which in rest]),
        np.stack([(members & (counts > 0) & (fold == k)).any(1) for k in names]),
    )


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


def t_quantile(degrees: np.ndarray | float, level: float = 0.95) -> np.ndarray | float:
    """The two-sided quantile of Student's t; NaN for no degree of freedom."""
    degrees = np.asarray(degrees, dtype=float)
    safe = np.where(degrees > 0, degrees, np.nan)
    return special.stdtrit(safe, 0.5 + level / 2)[()]


def interval(
    value: np.ndarray, error: np.ndarray, degrees: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the t interval, ``value -+ t * error``; NaN where there is no error."""
    half = t_quantile(degrees, level) * error
    return value - half, value + half
