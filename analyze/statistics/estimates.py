"""Labelled estimates with their replicates, and differences between them.

A replicate is the estimate without one fold. Folds hold the same probes at every checkpoint and in
every run, so the replicates of a difference are differences of replicates: noise that the two
estimates share cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyze.errors import InputError, unknown
from analyze.statistics import companions, jackknife
from analyze.statistics.regrouping import Conditions, grouped

# By name: a long name, and the function of unbiased alpha and a number of examples.
QUANTITIES: dict[str, tuple[str, Callable[[np.ndarray, Any], np.ndarray] | None]] = {
    "m_coherence": ("m-coherence", companions.coherence_at_size),
    "alpha_unbiased": ("unbiased alpha", lambda alpha, _: alpha),
    "coherence_at_size": (
        "m-coherence that subsets of one size would show", companions.coherence_at_size,
    ),
    "batch_alpha": ("alpha of the mean gradients of batches", companions.batch_alpha),
    "gradient_cosine": ("cosine between the mean gradients of two subsets", None),
    "cross_help": (
        "first-order drop of the other subset's mean loss per step along the subset's gradient",
        None,
    ),
}  # fmt: skip
SIZED = ("coherence_at_size", "batch_alpha")


def estimate(
    results: xr.DataTree,
    quantity: str = "alpha_unbiased",
    *,
    layers: str | Mapping[str, Sequence[str]] = "network",
    subsets: Mapping[str, Conditions] | None = None,
    size: int | None = None,
) -> xr.Dataset:
    """A quantity with its error, and with the replicates that a difference needs.

    Args:
        results: The results tree.
        quantity: ``m_coherence``, ``alpha_unbiased``, ``coherence_at_size``, ``batch_alpha``,
            ``gradient_cosine`` or ``cross_help``.
        layers: The groups of layers, as for ``coherence``.
        subsets: The subsets, as for ``coherence``.
        size: The number of examples to compare at, for ``coherence_at_size``; the batch size, for
            ``batch_alpha``.

    Returns:
        ``value``, ``stderr``, ``degrees_of_freedom`` and the ends of the 95 % interval, ``lower``
        and ``upper``, over checkpoint, layer and subset (for the last two ``subset_other`` as
        well); ``replicate`` and ``used`` also over ``fold``; ``member(subset, cell)``. Intervals
        are those of ``jackknife.root_interval``, mapped along with the value; those of the last two
        are t intervals.

    Raises:
        InputError: an unknown quantity, a size that is missing or has no meaning, or layers and
            subsets that ``coherence`` refuses.

    Example:
        ``analyze.statistics.estimate(results, "m_coherence")["upper"]``
    """
    _check(quantity, size)
    group = grouped(results, layers, subsets)
    sums = group.plain
    long_name, of_alpha = QUANTITIES[quantity]
    axes = ("subset",) if of_alpha else ("subset", "subset_other")
    if of_alpha:
        examples = sums.size if size is None else size
        value = of_alpha(sums.alpha_unbiased, examples)
        theta, used = of_alpha(sums.alpha_replicates, examples), sums.used
        degrees = sums.fold_degrees
    else:
        value, theta = (
            (sums.cosine, sums.cosine_replicates)
            if quantity == "gradient_cosine"
            else (sums.cross_help, sums.cross_help_replicates)
        )
        used = sums.used_pairs
        degrees = np.broadcast_to(used.sum(0) - 1.0, value.shape)
    over = (*group.leading, *axes)
    dataset = xr.Dataset(
        {
            "value": (over, value),
            "stderr": (over, jackknife.standard_error(theta, used)),
            "degrees_of_freedom": (over, degrees),
            "replicate": (("fold", *over), theta),
            "used": (("fold", *axes), used),
        },
        {**group.coordinates, "fold": np.unique(sums.fold)},
        {"quantity": quantity, "long_name": long_name},
    )
    if of_alpha is None:
        return _with_interval(dataset)
    error = jackknife.standard_error(sums.alpha_replicates, sums.used)
    ends = [of_alpha(end, examples) for end in sums.alpha_interval(error, sums.fold_degrees)]
    dataset["lower"], dataset["upper"] = ((over, end) for end in ends)
    cells = group.parameters["cell"].values
    dataset["member"] = group.members.assign_coords(cell=cells)
    return dataset


def difference(first: xr.Dataset, second: xr.Dataset, *, independent: bool = False) -> xr.Dataset:
    """``second - first`` of two estimates of one quantity, with its error.

    Select the two from ``estimate``: two checkpoints, two subsets, two layers, or the same in two
    runs whose probes have the same ids. All other dimensions are kept.

        a = analyze.statistics.estimate(results)
        statistics.difference(a.sel(checkpoint="step_1.pt"), a.sel(checkpoint="step_9.pt"))
        statistics.difference(a.sel(subset="clean"), a.sel(subset="corrupted"))

    The error is the jackknife of the difference: folds are left out of both at once, and the
    degrees of freedom are the smaller ones of the two. Estimates that share no cell are
    independent: their variances add, which is less noisy, with Welch's degrees of freedom.

    Args:
        first: The estimate to compare with.
        second: The estimate that is compared.
        independent: Whether to add the variances: the two have no probe in common, or folds that do
            not pair, as in two runs. For common probes the error is then mostly too large.

    Returns:
        ``value``, ``stderr``, ``degrees_of_freedom``, ``lower`` and ``upper``.

    Raises:
        InputError: different quantities, or different numbers of folds.

    Example:
        ``analyze.statistics.difference(a.sel(subset="clean"), a.sel(subset="corrupted"))``
    """
    _check_pair(first, second, folds=not independent)
    a, b = _without_scalars(first), _without_scalars(second)
    error, degrees = _independent(a, b) if independent or _apart(a, b) else _paired(a, b)
    dataset = xr.Dataset(
        {"value": b["value"] - a["value"], "stderr": error, "degrees_of_freedom": degrees}
    )
    dataset.attrs = first.attrs
    return _with_interval(dataset)


def _paired(a: xr.Dataset, b: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Error and degrees of freedom by leaving folds out of both estimates at once."""
    theta = (b["replicate"] - a["replicate"]).transpose("fold", ...)
    used = (a["used"] | b["used"]).broadcast_like(theta).transpose(*theta.dims)
    error = theta.isel(fold=0, drop=True)
    error = error.copy(data=jackknife.standard_error(theta.values, used.values))
    degrees = xr.concat([a["degrees_of_freedom"], b["degrees_of_freedom"]], "estimate").min(
        "estimate"
    )
    return error, degrees


def _independent(a: xr.Dataset, b: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Error and Welch's degrees of freedom by adding variances."""
    first, second = a["stderr"] ** 2, b["stderr"] ** 2
    parts = first**2 / a["degrees_of_freedom"] + second**2 / b["degrees_of_freedom"]
    return (first + second) ** 0.5, (first + second) ** 2 / parts


def _with_interval(dataset: xr.Dataset) -> xr.Dataset:
    half = dataset["stderr"] * jackknife.t_quantile(dataset["degrees_of_freedom"].values)
    return dataset.assign(lower=dataset["value"] - half, upper=dataset["value"] + half)


def _without_scalars(dataset: xr.Dataset) -> xr.Dataset:
    """An estimate without labels of a selection: arithmetic would require equal ones."""
    scalars = [name for name in dataset.coords if not dataset[name].dims]
    return dataset.drop_vars([*scalars, "step", "epoch"], errors="ignore")


def _apart(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether two estimates are of one subset each, without a common cell."""
    if not all("member" in x and x["member"].dims == ("cell",) for x in (a, b)):
        return False
    first, second = (set(x["cell"].values[x["member"].values].tolist()) for x in (a, b))
    return not first & second


def _check(quantity: str, size: int | None) -> None:
    if quantity not in QUANTITIES:
        fix = 'estimate(results, "alpha_unbiased")'
        raise unknown("no such quantity", repr(quantity), QUANTITIES, fix)
    if (quantity in SIZED) != (size is not None):
        raise InputError(
            f"a size goes with {' and '.join(SIZED)}, and with nothing else",
            found=f"{quantity} with size = {size}",
            expected="the number of examples to compare at, or of those in a batch",
            fix='estimate(results, "coherence_at_size", size=1000)',
        )


def _check_pair(first: xr.Dataset, second: xr.Dataset, *, folds: bool) -> None:
    quantities = [estimated.attrs.get("quantity") for estimated in (first, second)]
    if quantities[0] != quantities[1]:
        raise InputError(
            "these estimates are of different quantities",
            found=f"{quantities[0]} and {quantities[1]}",
            expected="two estimates of one quantity",
            fix="call estimate with the same quantity for both",
        )
    names = [estimated["fold"].values.tolist() for estimated in (first, second)]
    if folds and names[0] != names[1]:
        raise InputError(
            "these estimates have different folds",
            found=f"{len(names[0])} and {len(names[1])} folds",
            expected="the same number: folds pair by the ids of the probes",
            fix=f"measure both with --folds {len(names[0])}",
        )
