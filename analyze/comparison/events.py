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


def peaks(network: xr.Dataset, along: str) -> xr.Dataset:
    """``peak``, ``peak_stderr`` and ``peak_{along}``, ``(run, subset)``: the highest m-coherence.

    ``along`` is the coordinate of the places, ``network`` has ``(run, checkpoint, subset)``; NaN
    without a value. The highest of several noisy values is too high on average, and checkpoints
    that were not kept are unknown.
    """
    value = network["m_coherence"]
    known = value.notnull().any("checkpoint")
    at = value.fillna(-np.inf).argmax("checkpoint")
    where = ["checkpoint", "step", "epoch", along]
    place = network[along].isel(checkpoint=at).drop_vars(where, errors="ignore")
    highest = network[["m_coherence", "m_coherence_stderr"]].isel(checkpoint=at)
    highest = highest.drop_vars(where, errors="ignore")
    return xr.Dataset(
        {
            "peak": highest["m_coherence"].where(known),
            "peak_stderr": highest["m_coherence_stderr"].where(known),
            f"peak_{along}": place.where(known),
        }
    )


def first_difference(pairs: xr.Dataset, along: str) -> xr.DataArray:
    """The place of each pair's first significant difference, ``(pair, subset)``; NaN for none."""
    places = pairs[along].where(pairs["p_value_adjusted"] <= RATE)
    first = places.max("checkpoint") if along == "training_loss" else places.min("checkpoint")
    return first.rename(f"first_significant_{along}")


def at_equal_loss(alphas: Sequence[xr.Dataset], runs: Sequence[Run]) -> xr.Dataset:
    """M-coherence of the network where each run first falls to a level of training loss.

    ``alphas`` are unbiased alpha of each run's network, with checkpoints in the order of training.

    Returns:
        ``coherence_at_loss`` and ``coherence_at_loss_stderr``, ``(run, loss_level, subset)``, in
        examples of each run's own m; without variables where the loss of some run is not known.
    """
    losses = [training_loss(run.tree) for run in runs]
    levels = event_levels(losses)
    if not len(levels):
        return xr.Dataset()
    values = []
    for alpha, loss, run in zip(alphas, losses, runs, strict=True):
        value = coherence_of(alpha_at(alpha, first_crossings(loss, levels)), run.count)
        values.append(value[["m_coherence", "m_coherence_stderr"]].reset_coords(drop=True))
    every = list(dict.fromkeys(name for run in runs for name in run.subsets))
    table = joined([v.reindex(subset=every) for v in values], [r.name for r in runs], "run")
    renamed = table.rename(
        m_coherence="coherence_at_loss", m_coherence_stderr="coherence_at_loss_stderr",
        checkpoint="loss_level",
    )  # fmt: skip
    return renamed.assign_coords(loss_level=levels).transpose("run", "loss_level", "subset")
