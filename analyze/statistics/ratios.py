"""The ratio of coherence between two estimates, with its error and its significance.

    L = log(c_B / c_A),  c = 1 + (n - 1) alpha_u

with the unbiased alpha of each and one size n for both, so that subsets of different size compare.
If both were measured on the same probes in the same folds, the error is the jackknife of L, with
every fold left out of both at once; else the variances add. Null hypothesis: both have the same c.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import special

from analyze.errors import InputError, unknown
from analyze.statistics import jackknife
from analyze.statistics.estimates import difference, estimate
from analyze.statistics.noise_floor import adjusted_within
from analyze.statistics.regrouping import cell_members


def log_ratio(
    first: xr.Dataset, second: xr.Dataset, count: xr.DataArray, *, paired: bool
) -> xr.Dataset:
    """``log(second / first)`` at the labels that both have, tested against 0.

    Args:
        first: Unbiased alpha from ``estimate``, with ``checkpoint`` by its place.
        second: Unbiased alpha of the other run.
        count: The size at which to compare, ``(subset)``.
        paired: Whether the folds hold the same probes.

    Returns:
        ``log_ratio``, ``log_ratio_stderr``, ``log_ratio_lower`` and ``_upper`` (95 %), ``p_value``
        and ``p_value_adjusted`` (Benjamini and Hochberg, over all of each subset). NaN where a
        coherence or a replicate of it is not positive: too close to 0 for a ratio.
    """
    pair = [_logarithm(alpha, count) for alpha in (first, second)]
    return tested(difference(*pair, independent=not paired), "log_ratio")


def contrast(
    results: xr.DataTree, first: str, second: str, *, layers: str = "network"
) -> xr.Dataset:
    """Two subsets of one run against each other, at the size of the smaller one.

    Args:
        results: The results tree.
        first: A subset.
        second: Another subset without a probe of the first, so that the variances add.
        layers: ``network`` or ``layers``.

    Returns:
        The variables of ``log_ratio`` for ``log(second / first)``; ``difference``, ``second -
        first`` in examples, with its error, interval and p-values; ``compared_at``, the size. Over
        checkpoint, and layer; p-values are adjusted over all of them.

    Raises:
        InputError: no such subset, or two that have probes in common, such as one and ``all``.

    Example:
        ``analyze.statistics.contrast(results, "corrupted", "clean")["log_ratio"]``
    """
    _check_apart(results, first, second)
    counts = results.to_dataset()["probe_count"].sel(subset=[first, second])
    size = int(counts.min())
    alpha = estimate(results, "alpha_unbiased", layers=layers)
    former, latter = (
        alpha.sel(subset=[name]).assign_coords(subset=["contrast"]) for name in (first, second)
    )
    count = xr.DataArray([size], dims="subset", coords={"subset": ["contrast"]})
    gap = difference(*[_times(alpha, size - 1.0) for alpha in (former, latter)], independent=True)
    absolute = tested(gap, "difference")
    absolute = absolute.rename({p: f"difference_{p}" for p in ("p_value", "p_value_adjusted")})
    contrasted = log_ratio(former, latter, count, paired=False).assign(absolute)
    return contrasted.isel(subset=0, drop=True).assign(compared_at=size)


def _check_apart(results: xr.DataTree, first: str, second: str) -> None:
    """Refuse (InputError) subsets with common probes: their variances do not add."""
    known = [str(name) for name in results.to_dataset()["subset"].values]
    for name in (first, second):
        if name not in known:
            fix = 'contrast(results, "corrupted", "clean")'
            raise unknown("there is no such subset", repr(name), known, fix)
    members = cell_members(results)
    if bool((members.sel(subset=first) & members.sel(subset=second)).any()):
        raise InputError(
            "these subsets have probes in common",
            found=f"{first} and {second}",
            expected="two subsets without a common probe, whose variances add",
            fix="statistics.difference of both in statistics.estimate(results), which pairs folds",
        )


def _times(alpha: xr.Dataset, factor: float) -> xr.Dataset:
    """An estimate multiplied by a number."""
    return alpha.assign({name: factor * alpha[name] for name in ("value", "stderr", "replicate")})


def tested(gap: xr.Dataset, name: str) -> xr.Dataset:
    """A difference under a name, with two-sided p-values of Student's t against 0.

    Args:
        gap: As ``difference`` gives it, over ``subset``.
        name: What the difference is called, as in ``log_ratio``.

    Returns:
        The variables of ``log_ratio``, under the name.
    """
    value = gap["value"]
    error, degrees = (
        gap[column].broadcast_like(value).transpose(*value.dims).values
        for column in ("stderr", "degrees_of_freedom")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(value.values / error)
    p = value.copy(data=2 * special.stdtr(degrees, -t))
    panels = p.transpose(..., "subset")
    return xr.Dataset(
        {
            name: value,
            f"{name}_stderr": gap["stderr"],
            f"{name}_lower": gap["lower"],
            f"{name}_upper": gap["upper"],
            "p_value": p,
            "p_value_adjusted": panels.copy(data=adjusted_within(panels.values)),
        }
    )


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
