"""Where the runs of a comparison have a checkpoint, and where one, or a seed, has no value."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.results.sides import sides_of

NO_CHECKPOINT = "no checkpoint here"
NOT_REACHED = "the run never falls to this loss"
ABSENT = (NO_CHECKPOINT, NOT_REACHED)  # statuses of places that only other runs have


def present(comparison: xr.DataTree) -> xr.DataArray:
    """Whether each run has a checkpoint at each place, ``(run, checkpoint)``.

    Lines pass by a place that a run does not have. A checkpoint that was skipped, or that has no
    value, is one: there a line is broken.
    """
    status = comparison.to_dataset()["status"].transpose("run", "checkpoint")
    absent = np.isin(status.values.astype(str), ABSENT)
    return status.copy(data=~absent).rename("present")


def has_gaps(comparison: xr.DataTree) -> bool:
    """Whether a run with values of a row and subset has a checkpoint without one."""
    there = present(comparison)
    values = (comparison[name].to_dataset()["m_coherence"] for name in ("network", "layers"))
    known = [value.notnull() for value in values]
    return any(bool((there & ~one & one.any("checkpoint")).any()) for one in known)


def seeds_below_zero(comparison: xr.DataTree) -> bool:
    """Whether a configuration somewhere has no mean because a seed is at or below 0."""
    if "groups" not in comparison.children:
        return False
    tables = (comparison[f"groups/{name}"].to_dataset() for name in ("network", "layers"))
    return any(bool(((t["runs"] > 0) & t["m_coherence"].isnull()).any()) for t in tables)


def lacks_seeds(comparison: xr.DataTree) -> bool:
    """Whether the mean of a configuration is somewhere over some of its runs, not over all."""
    if "groups" not in comparison.children:
        return False
    tables = [comparison[f"groups/{name}"].to_dataset() for name in ("network", "layers")]
    sizes = {side.name: len(side.runs) for side in sides_of(comparison) if side.is_group}
    return any(
        bool(((number > 0) & (number < sizes[name])).any())
        for name in sizes
        for number in (table["runs"].sel(group=name) for table in tables)
    )
