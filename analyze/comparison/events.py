"""What happens when: peaks of each run, and where two runs first differ."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.comparison.pairs import RATE


def peaks(network: xr.Dataset, along: str) -> xr.Dataset:
    """The highest measured m-coherence of each run and subset, with its error and its place.

    The highest of several noisy values is on average too high, and checkpoints between those
    that were kept are not known.

    Args:
        network: ``m_coherence`` and ``m_coherence_stderr`` ``(run, checkpoint, subset)``.
        along: The coordinate of the places, ``step`` or ``epoch``.

    Returns:
        ``peak``, ``peak_stderr``, ``peak_{along}``, ``(run, subset)``; NaN without a value.
    """
    value = network["m_coherence"]
    known = value.notnull().any("checkpoint")
    at = value.fillna(-np.inf).argmax("checkpoint")
    place = network[along].isel(checkpoint=at).drop_vars(["checkpoint", "step", "epoch"],
                                                         errors="ignore")  # fmt: skip
    highest = network[["m_coherence", "m_coherence_stderr"]].isel(checkpoint=at)
    highest = highest.drop_vars(["checkpoint", "step", "epoch"], errors="ignore")
    return xr.Dataset(
        {
            "peak": highest["m_coherence"].where(known),
            "peak_stderr": highest["m_coherence_stderr"].where(known),
            f"peak_{along}": place.where(known),
        }
    )


def first_difference(pairs: xr.Dataset, along: str) -> xr.DataArray:
    """Where each pair first differs significantly, ``(pair, subset)``; NaN where it never does."""
    found = pairs["p_value_adjusted"] <= RATE
    places = pairs[along].where(found)
    return places.min("checkpoint").rename(f"first_significant_{along}")
