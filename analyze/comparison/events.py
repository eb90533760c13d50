"""Key events: peaks of each run, first differences of pairs, coherence at equal loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.comparison.loss_levels import (
    alpha_at,
    coherence_of,
    event_levels,
    first_crossings,
    training_loss,
)
from analyze.comparison.runs import Run, joined
from analyze.statistics.significance import RATE


def peaks(network: xr.Dataset, along: str, prefix: str = "") -> xr.Dataset:
    """``peak`` and ``peak_{along}``: the highest m-coherence over the checkpoints, and its place.

    With ``peak_stderr`` of runs, and ``peak_lower`` and ``_upper`` where there is an interval; NaN
    without a value. ``network`` has ``(run or group, checkpoint, subset)``, ``along`` is the
    coordinate of the places, ``prefix`` stands before every name. The highest of several noisy
    values is too high on average, and checkpoints that were not kept are unknown.
    """
    value = network["m_coherence"]
    known = value.notnull().any("checkpoint")
    at = value.fillna(-np.inf).argmax("checkpoint")
    where = ["checkpoint", "step", "epoch", along]
    found = {f"{prefix}peak_{along}": network[along].isel(checkpoint=at)}
    for end in ("", "_stderr", "_lower", "_upper"):
        if (name := f"m_coherence{end}") in network:
            found[f"{prefix}peak{end}"] = network[name].isel(checkpoint=at)
    return xr.Dataset(
        {k: v.drop_vars(where, errors="ignore").where(known) for k, v in found.items()}
    )


def first_difference(pairs: xr.Dataset, along: str) -> xr.DataArray:
    """The place of each pair's first significant difference, ``(pair, subset)``; NaN for none.

    Significant at a false discovery rate over all pairs and checkpoints of the subset.
    """
    places = pairs[along].where(pairs["p_value_adjusted"] <= RATE)
    first = places.max("checkpoint") if along == "training_loss" else places.min("checkpoint")
    return first.rename(f"first_significant_{along}")


def at_equal_loss(alphas: Sequence[xr.Dataset], runs: Sequence[Run], size: int) -> xr.Dataset:
    """M-coherence of the network where each run first falls to a level of training loss.

    ``alphas`` are unbiased alpha of each run's network, with checkpoints in the order of training.

    Returns:
        ``coherence_at_loss`` and ``coherence_at_loss_stderr``, ``(run, loss_level, subset)``, of
        ``size`` examples; without variables where the loss of some run is not known.
    """
    losses = [training_loss(run.tree.to_dataset()) for run in runs]
    levels = event_levels(losses)
    if not len(levels):
        return xr.Dataset()
    values = []
    for alpha, loss in zip(alphas, losses, strict=True):
        at_levels = alpha_at(alpha, first_crossings(loss, levels))
        value = coherence_of(at_levels, xr.DataArray(float(size)))
        values.append(value[["m_coherence", "m_coherence_stderr"]].reset_coords(drop=True))
    every = list(dict.fromkeys(name for run in runs for name in run.subsets))
    table = joined([v.reindex(subset=every) for v in values], [r.name for r in runs], "run")
    renamed = table.rename(
        m_coherence="coherence_at_loss", m_coherence_stderr="coherence_at_loss_stderr",
        checkpoint="loss_level",
    )  # fmt: skip
    return renamed.assign_coords(loss_level=levels).transpose("run", "loss_level", "subset")
