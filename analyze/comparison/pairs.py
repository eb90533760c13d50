"""The ratio of coherence between two runs, with its error and its significance.

    L = log(c_B / c_A),  c = 1 + (n - 1) alpha_u

with the unbiased alpha of each run and one size n for both, the smaller count of the two, so that
subsets of different size compare. Where both were measured on the same probes in the same folds
the error is the jackknife of L, every fold left out of both runs at once: what the examples
have in common cancels. Else the variances add. Null hypothesis: both have the same c.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from analyze.comparison.runs import Run
from analyze.statistics import difference, jackknife
from analyze.statistics.noise_floor import adjusted

RATE = 0.05  # of false discoveries in one panel: the layers and checkpoints of a subset


def log_ratio(first: xr.Dataset, second: xr.Dataset, count: xr.DataArray, *,
              paired: bool) -> xr.Dataset:  # fmt: skip
    """``log(second / first)`` at what both have, tested against 0.

    Args:
        first: As ``statistics.estimate`` gives unbiased alpha, with ``checkpoint`` by its place.
        second: The same of the other run.
        count: The size at which to compare, ``(subset)``.
        paired: Whether the folds hold the same probes.

    Returns:
        ``log_ratio``, ``log_ratio_stderr``, ``log_ratio_lower`` and ``_upper`` (95 %), ``p_value``
        and ``p_value_adjusted`` (Benjamini and Hochberg, over all of each subset). NaN where a
        coherence, or one without a fold, is not positive: it is too close to 0 for a ratio.
    """
    found = difference(_logarithm(first, count), _logarithm(second, count), independent=not paired)
    value, error = found["value"], found["stderr"]
    degrees = found["degrees_of_freedom"].broadcast_like(value).transpose(*value.dims)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(value.values / error.transpose(*value.dims).values)
    p = value.copy(data=2 * stats.t.sf(t, degrees.values))
    return xr.Dataset(
        {
            "log_ratio": value,
            "log_ratio_stderr": error,
            "log_ratio_lower": found["lower"],
            "log_ratio_upper": found["upper"],
            "p_value": p,
            "p_value_adjusted": _adjusted(p),
        }
    )


def folds_pair(first: Run, second: Run, *, same: bool) -> bool:
    """Whether the folds of two runs hold the same probes."""
    return same and first.folds == second.folds and len(first.folds) > 1


def _adjusted(p: xr.DataArray) -> xr.DataArray:
    """Over every dimension but the subset."""
    ordered = p.transpose("subset", ...)
    panels = [adjusted(panel) for panel in ordered.values]
    return ordered.copy(data=np.stack(panels)).transpose(*p.dims)


def _logarithm(alpha: xr.Dataset, count: xr.DataArray) -> xr.Dataset:
    """The estimate of ``log c`` from that of alpha."""
    result = alpha[["degrees_of_freedom", "used"]]
    for name in ("value", "replicate"):
        coherence = alpha[name] * (count - 1.0) + 1.0
        positive = coherence.where(coherence > 0).transpose(*alpha[name].dims)
        result[name] = positive.copy(data=np.log(positive.values))
    theta = result["replicate"]
    error = jackknife.standard_error(theta.values, result["used"].values)
    result["stderr"] = result["value"].copy(data=error)
    result.attrs = {"quantity": "log_coherence", "long_name": "logarithm of m-coherence"}
    return result
