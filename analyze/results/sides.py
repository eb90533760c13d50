"""The sides of a comparison: configurations, whose runs are seeds of it, and runs of none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import xarray as xr

from analyze.statistics.regrouping import provenance


@dataclass(frozen=True)
class Side:
    """What stands against others: a configuration with the runs that are its seeds, or one run."""

    name: str
    runs: tuple[str, ...]
    is_group: bool


def sides(runs: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Side]:
    """The configurations and the runs of none, in the order of their first runs."""
    of_run = {run: name for name, members in groups.items() for run in members}
    found = {}
    for run in runs:
        if (group := of_run.get(run)) is None:
            found[run, False] = Side(run, (run,), False)
        else:
            found[group, True] = Side(group, tuple(groups[group]), True)
    return list(found.values())


def sides_of(comparison: xr.DataTree) -> list[Side]:
    """The sides of a comparison, in the order of its runs."""
    runs = [str(name) for name in comparison["network"].to_dataset()["run"].values]
    return sides(runs, provenance(comparison).get("groups") or {})


def pair_names(of: Sequence[Side]) -> dict[str, tuple[Side, Side]]:
    """Every two sides A and B by the name ``B / A``, those with the first side first."""
    return {f"{b.name} / {a.name}": (a, b) for a, b in combinations(of, 2)}
