"""95 % intervals from the jackknife's standard errors."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from analyze.probes.subsets import ALL

# The 0.975 quantiles of Student's t for 1 to 30 degrees of freedom.
QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def t_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t; NaN for no degree of freedom. Within 0.001."""
    if degrees < 1:
        return float("nan")
    if degrees <= len(QUANTILES):
        return QUANTILES[degrees - 1]
    return 1.95996 + 2.3723 / degrees + 2.82 / degrees**2


def fold_count(results: xr.DataTree, subset: str) -> int:
    """In how many folds a subset has probes: the blocks of its jackknife."""
    cells = results["parameters"].to_dataset()
    held_out = json.loads(results.attrs.get("provenance", "{}")).get("held_out") or []
    names = cells["cell_subset"].values.astype(str)
    own = ~np.isin(names, held_out) if subset == ALL else names == subset
    occupied = own & (cells["probe_count"].values > 0)
    return len(np.unique(cells["cell_fold"].values[occupied]))


def half_width(results: xr.DataTree, subset: str) -> np.ndarray:
    """Half the 95 % interval of the network's m-coherence, ``[checkpoint]``; NaN where unknown."""
    error = results["network"].to_dataset()["m_coherence_stderr"].sel(subset=subset).values
    return t_quantile(fold_count(results, subset) - 1) * error
