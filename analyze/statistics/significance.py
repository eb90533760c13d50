"""The one rule of significance: what of m-coherence is more, or less, than chance would show.

Where the mean gradient is zero, m-coherence has the distribution of ``noise_floor``. Gradients
*agree* where it is above what chance shows, and *cancel* where it is below; at a false discovery
rate of ``RATE`` over the checkpoints, and layers, of each subset. The rest is *within chance*. The
same holds for the network and for layers, in the report, the comparison and ``analyze show``.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import special

from analyze.statistics.noise_floor import adjusted_within

RATE = 0.05  # of false discoveries among the checkpoints and layers of a subset


def tested(group: xr.Dataset) -> xr.DataArray:
    """Where a value was tested: not of a single fold, without a gradient, or of older results."""
    if "p_value_adjusted" not in group:
        return xr.zeros_like(group["m_coherence"], dtype=bool)
    return group["p_value_adjusted"].notnull()


def agree(group: xr.Dataset) -> xr.DataArray:
    """Where gradients agree beyond chance: ``p_value_adjusted`` of ``RATE`` at most.

    Args:
        group: ``/network`` or ``/layers`` of results, whole or some subsets of it.
    """
    return tested(group) & (_column(group, "p_value_adjusted") <= RATE)


def cancel(group: xr.Dataset) -> xr.DataArray:
    """Where gradients cancel beyond chance: m-coherence below 1 by its test and by its interval.

    ``P(chi2(d_eff) <= d_eff C)``, adjusted as ``p_value_adjusted`` is, is ``RATE`` at most, and the
    95 % interval ends below 1. The two together, as the first is passed by chance too often in few
    directions. ``group`` is a whole one: the adjustment is over all of its checkpoints and layers.
    """
    value = group["m_coherence"]
    if not {"effective_dimension", "m_coherence_upper"} <= set(group):
        return xr.zeros_like(value, dtype=bool)
    dimension = group["effective_dimension"].transpose(*value.dims).values
    chance = value.copy(data=special.chdtr(dimension, dimension * value.values))
    panels = chance.transpose(..., "subset")
    below = panels.copy(data=adjusted_within(panels.values)).transpose(*value.dims)
    return (below <= RATE) & (group["m_coherence_upper"] < 1.0)


def within_chance(group: xr.Dataset) -> xr.DataArray:
    """Where a value was tested and neither agrees nor cancels: it cannot be told from chance."""
    return tested(group) & ~agree(group) & ~cancel(group)


def _column(group: xr.Dataset, name: str) -> xr.DataArray:
    """A variable; NaN where results of an older version do not have it."""
    return group[name] if name in group else xr.full_like(group["m_coherence"], np.nan)
