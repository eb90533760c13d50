"""Matching of runs: layers by their names, checkpoints by their place along training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr

from analyze.errors import InputError, listed


def rename_map(renames: Iterable[str]) -> dict[str, str]:
    """``OLD=NEW`` as a mapping; InputError without a text on both sides of the sign."""
    names = {}
    for text in renames:
        old, _, new = text.partition("=")
        if not old or not new:
            raise InputError(
                "this does not say what to rename",
                found=repr(text),
                expected="the name of a layer, an equals sign, the name it has in other runs",
                fix="--rename head=fc",
            )
        names[old] = new
    return names


def renamed(names: Sequence[str], renames: Mapping[str, str], run: str) -> list[str]:
    """New names of a run's layers; InputError where two layers would have the same name."""
    new = [renames.get(name, name) for name in names]
    if twice := [name for name in dict.fromkeys(new) if new.count(name) > 1]:
        raise InputError(
            "two layers of one run would have the same name",
            found=f"{listed(twice)} in {run}",
            expected="names that stay different: a layer has one partner in each run",
            fix="--rename OLD=NEW with a NEW that the run does not have",
        )
    return new


def check_renames(renames: Mapping[str, str], layers: Iterable[str]) -> None:
    """Refuse (InputError) to rename layers that no run has."""
    known = list(dict.fromkeys(layers))
    if missing := [old for old in renames if old not in known]:
        raise InputError(
            "no run has a layer of this name",
            found=listed(missing),
            expected=f"one of {listed(known)}",
            fix="--rename OLD=NEW with a name from analyze show OUT.h5 --layers",
        )


def places(root: xr.Dataset, align: str, run: str) -> np.ndarray:
    """The place of each checkpoint, NaN where unknown; InputError for two at one place."""
    values = root[align].values.astype(float)
    known, count = np.unique(values[np.isfinite(values)], return_counts=True)
    if (count > 1).any():
        raise InputError(
            f"a run has two checkpoints at one {align}",
            found=f"{align} {known[count > 1][0]:g} in {run}",
            expected="one checkpoint to compare at each place",
            fix="measure one of them: analyze run RUN --checkpoints GLOB",
        )
    return values


def check_shared(places: Sequence[np.ndarray], align: str) -> None:
    """Refuse (InputError) runs of which no two have a checkpoint at the same place."""
    every = np.concatenate([values[np.isfinite(values)] for values in places])
    if len(every) == len(np.unique(every)):
        shown = [", ".join(f"{v:g}" for v in values[:4]) for values in places[:2]]
        raise InputError(
            f"no two runs have a checkpoint at the same {align}",
            found=f"{align} {shown[0]} ... and {shown[1]} ...",
            expected="at least one that is shared: coherence between checkpoints is not known",
            fix="--align epoch, or measure checkpoints at the same steps",
        )
