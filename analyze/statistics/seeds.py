"""Configurations whose runs differ in their seed only: geometric means, and a test over the seeds.

With c_r the m-coherence of run r and R runs of a configuration,

    mean = exp(mean_r log c_r),   mean * exp(-+ t(R - 1) s / sqrt(R)),   s^2 = var_r log c_r,
                                  and no end above m

    L = mean_r log c_r of B - mean_r log c_r of A,   error^2 = s_A^2 / R_A + s_B^2 / R_B

with Welch's degrees of freedom. In logarithms, as seeds differ by factors, and no interval has a
negative end. The spread holds what the seeds do and the error of each run; folds play no part.

At another size than its own a run may have an m-coherence at or below 0, where its unbiased alpha
is negative: by chance, or as its gradients cancel. It has no logarithm, and the mean of the others
would be too high: there is no mean, and no ratio.

Source: Welch, "The generalization of 'Student's' problem when several different population
variances are involved" (1947).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import special

from analyze.statistics import jackknife
from analyze.statistics.arrays import ratio
from analyze.statistics.ratios import tested


@dataclass(frozen=True)
class Seeds:
    """Logarithms of the m-coherence of a configuration's runs: number, mean and variance.

    Each ``[...]``. The mean is NaN without a run, and where one is at or below 0; the variance also
    with fewer than two runs, and where all are equal: runs that do not differ at all are copies and
    no seeds.
    """

    number: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @staticmethod
    def of(coherence: np.ndarray) -> Seeds:
        """From m-coherence ``[R, ...]``, NaN where a run has none."""
        known = np.isfinite(coherence)
        lowest = np.where(known, coherence, 1.0).min(0)
        logarithm = np.log(np.where(known & (coherence > 0), coherence, 1.0))
        number = known.sum(0).astype(float)
        mean = np.where(lowest > 0, ratio(logarithm.sum(0), number), np.nan)
        squares = np.where(known, np.square(logarithm - mean), 0.0).sum(0)
        variance = ratio(squares, np.maximum(number - 1.0, 0.0))
        return Seeds(number, mean, np.where(variance > 0, variance, np.nan))


def geometric_mean(
    coherence: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The geometric mean over seeds, the ends of its 95 % interval, and the number of seeds.

    Args:
        coherence: M-coherence of the runs at one size, ``[R, ...]``; NaN where a run has none.
        size: That size, the number of examples m: the most that m-coherence can be.

    Returns:
        Mean, lower and upper end, in examples, and number of runs with a value, each ``[...]``. No
        interval of one run, and neither mean nor interval where a run is at or below 0.
    """
    seeds = Seeds.of(coherence)
    error = np.sqrt(ratio(seeds.variance, seeds.number))
    half = error * jackknife.t_quantile(seeds.number - 1.0)
    mean = np.exp(seeds.mean)
    upper = np.minimum(np.exp(seeds.mean + half), np.maximum(mean, size))
    return mean, np.exp(seeds.mean - half), upper, seeds.number


def log_ratio_over_seeds(first: xr.DataArray, second: xr.DataArray) -> xr.Dataset:
    """The ratio of the geometric means of two configurations, tested over their seeds.

    Welch's test, as configurations may spread differently. At a place where one of them has a
    single run, this is taken to spread as the runs of the other do: error^2 = s^2 (1 + 1/R), R - 1
    degrees of freedom. Two seeds each leave one to two degrees of freedom, so that an interval is
    4 to 13 standard errors to either side: whether configurations differ mostly cannot be told.

    Args:
        first: M-coherence of the runs of A at one size, with ``run``; NaN where a run has none.
        second: The same of B, over the same labels.

    Returns:
        The variables of ``ratios.log_ratio``, without ``run``. No error and p-value where neither
        has two runs that differ; nothing where a run is at or below 0.
    """
    over = [str(d) for d in first.dims if d != "run"]
    a, b = (Seeds.of(side.transpose("run", *over).values) for side in (first, second))
    spread_a = np.where(a.number == 1, b.variance, a.variance)
    spread_b = np.where(b.number == 1, a.variance, b.variance)
    parts = [ratio(spread, side.number) for spread, side in ((spread_a, a), (spread_b, b))]
    squared = parts[0] + parts[1]
    shares = [ratio(part**2, side.number - 1) for part, side in zip(parts, (a, b), strict=True)]
    apart = ratio(squared**2, shares[0] + shares[1])
    degrees = np.select([a.number == 1, b.number == 1], [b.number - 1, a.number - 1], apart)
    error = np.sqrt(squared)
    value = b.mean - a.mean
    half = error * jackknife.t_quantile(np.nan_to_num(degrees))
    columns = {
        "value": value, "stderr": error, "degrees_of_freedom": degrees,
        "lower": value - half, "upper": value + half,
    }  # fmt: skip
    like = first.isel(run=0, drop=True).transpose(*over)
    return tested(xr.Dataset({k: like.copy(data=v) for k, v in columns.items()}), "log_ratio")


def equal_means(values: np.ndarray, configuration: np.ndarray) -> np.ndarray:
    """P-values of equal means in all configurations, by the F test of one-way analysis of variance.

    Args:
        values: ``[R, N]``, of each run; the spread between seeds counts as equal everywhere.
        configuration: ``[R]``, the number of each run's configuration.

    Returns:
        ``[N]``; NaN where a run has no value, with one configuration, or without two seeds of any.
    """
    names, code = np.unique(configuration, return_inverse=True)
    member = code == np.arange(len(names))[:, None]  # [configuration, R]
    number = member.sum(1)
    means = ratio(member.astype(float) @ values, number[:, None])  # [configuration, N]
    between = (number[:, None] * np.square(means - values.mean(0))).sum(0)
    within = np.square(values - means[code]).sum(0)
    degrees = (len(names) - 1, len(code) - len(names))
    if min(degrees) < 1:
        return np.full(values.shape[1:], np.nan)
    f = ratio(between / degrees[0], within / degrees[1])
    return special.fdtrc(*degrees, f)
