"""95 % intervals from the jackknife's standard errors."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.statistics.jackknife import t_quantile
from analyze.statistics.warnings import folds_used


def fold_count(results: xr.DataTree, subset: str) -> int:
    """In how many folds a subset has probes: the blocks of its jackknife."""
    return int(folds_used(results).sel(subset=subset))


def half_width(results: xr.DataTree, subset: str, group: str = "network") -> np.ndarray:
    """Half the 95 % interval of m-coherence; NaN where unknown.

    Returns:
        ``[checkpoint]`` of the network, ``[checkpoint, layer]`` of ``group="layers"``.
    """
    one = results[group].to_dataset().sel(subset=subset)
    if "m_coherence_upper" in one:
        return (one["m_coherence_upper"] - one["m_coherence"]).values
    degrees = np.full(one["m_coherence"].shape, fold_count(results, subset) - 1.0)
    return t_quantile(degrees) * one["m_coherence_stderr"].values
