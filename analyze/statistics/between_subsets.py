"""Between subsets of a run: cosines and cross help, their errors, and what is beyond chance.

Whether two mean gradients pull the same way is tested by their product, not by their cosine: where
one of the two is mostly noise, the cosine is any number of a few directions, -1 or 1 of a single
one, and its error by the jackknife is far too small. See the ADR on the test between subsets.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import special

from analyze.probes.subsets import ALL
from analyze.statistics.estimates import estimate
from analyze.statistics.noise_floor import adjusted
from analyze.statistics.significance import RATE

PAIR = ("subset", "subset_other")


def has_sums(results: xr.DataTree) -> bool:
    """Whether results have the gradient sums from which errors are computed."""
    return "gradient_gram" in results["parameters"].to_dataset()


def between_subsets(results: xr.DataTree) -> xr.Dataset:
    """Cosines and cross help of the network, with errors and the test of both.

    ``t = cross_help / stderr`` with K - 1 degrees of freedom, two-sided, adjusted for the false
    discovery rate over all pairs of subsets and all checkpoints. A subset and itself, and ``all``,
    which holds the others, are not tested.

    Returns:
        ``gradient_cosine`` and ``cross_help`` (loss per unit of learning rate) with their
        ``_stderr``, the ends of the 95 % interval of cross help, ``_lower`` and ``_upper``, and
        ``p_value_adjusted``, over checkpoint, subset and subset_other; NaN where there is a single
        fold, or no gradient.

    Cost: K + 1 sums over the Gram matrix of the network's cells; the results hold nothing more.
    """
    found = {name: estimate(results, name) for name in ("gradient_cosine", "cross_help")}
    table = xr.Dataset({name: one["value"] for name, one in found.items()})
    for name, one in found.items():
        table[f"{name}_stderr"] = one["stderr"]
    for end in ("lower", "upper"):
        table[f"cross_help_{end}"] = found["cross_help"][end]
    help_ = found["cross_help"].transpose(..., *PAIR)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(help_["value"].values / help_["stderr"].values)
        p = 2.0 * special.stdtr(help_["degrees_of_freedom"].values, -t)
    names = help_["subset"].values.astype(str)
    pairs = np.triu(names[:, None] != names[None, :]) & ~(names == ALL) & ~(names == ALL)[:, None]
    upper = adjusted(np.where(pairs, p, np.nan))
    both = np.where(np.isnan(upper), np.swapaxes(upper, -1, -2), upper)
    table["p_value_adjusted"] = help_["value"].copy(data=both)
    return table.transpose(..., *PAIR)


def together(table: xr.Dataset) -> xr.DataArray:
    """Where two subsets help or oppose each other beyond chance: at a rate of ``RATE``."""
    return table["p_value_adjusted"] <= RATE


def apart(table: xr.Dataset) -> xr.DataArray:
    """Where two subsets were tested, and cannot be told from orthogonal ones."""
    return table["p_value_adjusted"] > RATE
