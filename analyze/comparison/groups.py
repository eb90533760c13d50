"""Groups of runs that are seeds of one configuration: which they are, their means and ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr

from analyze.comparison.runs import joined
from analyze.errors import InputError, listed
from analyze.results.sides import Side
from analyze.statistics.seeds import geometric_mean, log_ratio_over_seeds

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
    """Refuse (InputError) groups of one run, of runs that are not compared, or that share a run.

    A group may not have the name of a run that is in none: a pair could then be of either.
    """
    if small := [name for name, members in groups.items() if len(members) < FEWEST]:
        raise InputError(
            "a group is of several runs",
            found=f"{listed(small)} with fewer than {FEWEST}",
            expected="two or more runs that differ in their seed: one has no spread",
            fix="--group NAME=A.h5,B.h5, or leave a single run as it is",
        )
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
    if alike := [name for name in groups if name in runs and name not in every]:
        raise InputError(
            "a group has the name of a run that is in no group",
            found=listed(alike),
            expected="different names, as both stand in the names of pairs",
            fix="--group with another name before the equals sign",
        )


def over_seeds(dataset: xr.Dataset, groups: Mapping[str, Sequence[str]], size: int) -> xr.Dataset:
    """The geometric mean over the runs of each group, with a 95 % interval from their spread.

    ``dataset`` has ``m_coherence`` of all runs at one ``size``. What the interval is:
    ``statistics.seeds``.

    Returns:
        ``m_coherence``, ``m_coherence_lower`` and ``_upper``, and ``runs``, the number of them that
        have a value, with ``group`` first; no interval of a single run.
    """
    value = dataset["m_coherence"]
    means = [_over_seeds(value.sel(run=list(runs)), size) for runs in groups.values()]
    return joined(means, list(groups), "group")


def _over_seeds(coherence: xr.DataArray, size: int) -> xr.Dataset:
    values = geometric_mean(coherence.transpose("run", ...).values, size)
    like = coherence.transpose("run", ...).isel(run=0, drop=True)
    names = ("m_coherence", "m_coherence_lower", "m_coherence_upper", "runs")
    return xr.Dataset({k: like.copy(data=v) for k, v in zip(names, values, strict=True)})


def pairs_over_seeds(
    dataset: xr.Dataset, pairs: Mapping[str, tuple[Side, Side]]
) -> dict[str, xr.Dataset]:
    """The ratio of every two sides of which one at least is a configuration, by its name."""
    value = dataset["m_coherence"]
    return {
        name: log_ratio_over_seeds(value.sel(run=list(a.runs)), value.sel(run=list(b.runs)))
        for name, (a, b) in pairs.items()
        if a.is_group or b.is_group
    }
