"""Groups of runs that are seeds of one configuration: their mean with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from analyze.comparison.runs import joined
from analyze.errors import InputError, listed
from analyze.statistics.jackknife import t_quantile

FEWEST = 2


def group_map(texts: Iterable[str], runs: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=A,B`` or ``NAME=A.h5,B.h5`` as a mapping from groups to runs.

    Raises:
        InputError: no equals sign, fewer than two runs, one that is not compared, or one that is
            in two groups.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, _, members = text.partition("=")
        names = [m if m in runs else Path(m).stem for m in members.split(",") if m]
        if not name or len(names) < FEWEST:
            raise InputError(
                "this does not say which runs are a group",
                found=repr(text),
                expected="a name, an equals sign, and two or more runs with commas between them",
                fix="--group clean=seed1.h5,seed2.h5",
            )
        groups[name] = [*groups.get(name, []), *names]
    check_groups(groups, runs)
    return groups


def check_groups(groups: Mapping[str, Sequence[str]], runs: Sequence[str]) -> None:
    """Refuse (InputError) groups of runs that are not compared, or that share a run."""
    every = [name for names in groups.values() for name in names]
    missing = [name for name in dict.fromkeys(every) if name not in runs]
    twice = [name for name in dict.fromkeys(every) if every.count(name) > 1]
    if missing or twice:
        raise InputError(
            "the groups do not fit the runs",
            found=f"{listed(missing or twice)}, {'not compared' if missing else 'given twice'}",
            expected=f"each of {listed(list(runs))} in one group at most",
            fix="--group NAME=A.h5,B.h5 with the runs that are compared",
        )


def over_seeds(
    dataset: xr.Dataset, count: xr.DataArray, groups: Mapping[str, Sequence[str]]
) -> xr.Dataset:
    """The mean over the runs of each group, with a 95 % interval from their spread.

    ``c = 1 + (n - 1) alpha_u`` of every run at one size n, the smallest of the group, then mean
    and Student's t interval ``mean -+ t(R - 1) s / sqrt(R)`` over the R runs that have a value.
    The spread includes the differences between seeds and the error of each run. ``count`` has the
    probes ``(run, subset)``, 0 where a run does not have the subset.

    Returns:
        ``m_coherence``, ``m_coherence_lower`` and ``_upper``, ``runs`` and ``compared_at``, with
        ``group`` first; no interval of a single run.
    """
    means = [_over_seeds(dataset, count, list(names)) for names in groups.values()]
    return joined(means, list(groups), "group")


def _over_seeds(dataset: xr.Dataset, count: xr.DataArray, names: list[str]) -> xr.Dataset:
    alpha = dataset["alpha_unbiased"].sel(run=names)
    sizes = count.sel(run=names)
    size = sizes.where(sizes > 0).min("run")
    value = 1.0 + (size - 1.0) * alpha
    number = value.notnull().sum("run")
    mean, spread = value.mean("run"), value.std("run", ddof=1)
    half = spread / np.sqrt(number.where(number > 1))
    half = half * t_quantile(number.values - 1.0)
    over = alpha.isel(run=0, drop=True).dims
    values = {
        "m_coherence": mean, "m_coherence_lower": mean - half, "m_coherence_upper": mean + half,
        "runs": number,
    }  # fmt: skip
    return xr.Dataset({k: v.transpose(*over) for k, v in values.items()}).assign(compared_at=size)
