"""Matching of runs: probes by what is known of them, layers by name, checkpoints by training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr

from analyze.comparison.loss_levels import levels_of, training_loss
from analyze.comparison.runs import Run
from analyze.errors import InputError, listed

HASH, FILE, IDS = "hash of the inputs", "probe file", "ids of the probes"
UNKNOWN, DIFFERENT = "nothing", "different"


def same_probes(first: Run, second: Run) -> tuple[bool, str]:
    """Whether the probes are the same, and the criterion.

    The criterion is the hash of the inputs if both results have it, else the hash of the probe
    file if that is equal, else the ids in ``/examples``, which different inputs can share. Results
    with none of these count as different.
    """
    hashes = [run.provenance.get("inputs_sha256") for run in (first, second)]
    if all(hashes):
        return hashes[0] == hashes[1], HASH
    files = [(run.provenance.get("probes") or {}).get("sha256") for run in (first, second)]
    if all(files) and files[0] == files[1]:
        return True, FILE
    if all("examples" in run.tree.children for run in (first, second)):
        ids = [np.sort(r.tree["examples"].to_dataset()["probe"].values) for r in (first, second)]
        return np.array_equal(ids[0], ids[1]), IDS
    return False, UNKNOWN


def check_probes(runs: Sequence[Run], *, different_allowed: bool) -> list[str]:
    """The criterion by which each run's probes are those of the first run, or ``different``.

    Raises:
        InputError: different inputs, unless they are allowed.
    """
    judged = [same_probes(runs[0], run) for run in runs]
    different = [run.name for run, (same, _) in zip(runs, judged, strict=True) if not same]
    if different and not different_allowed:
        _, by = judged[[run.name for run in runs].index(different[0])]
        raise InputError(
            "these runs were measured on different probes",
            found=f"{different[0]} has other inputs than {runs[0].name}, judged by: {by}",
            expected="the same inputs, as a difference may otherwise come from the examples; "
            "labels and subsets may differ",
            fix="measure both on the same inputs, or --different-probes to compare all the same",
        )
    return [by if same else DIFFERENT for same, by in judged]


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


def check_shared(runs: Sequence[xr.Dataset], places: Sequence[np.ndarray], align: str) -> None:
    """Refuse (InputError) runs of which no two have a checkpoint at the same place."""
    if not _any_shared(places):
        shown = [_shown(values, align) for values in places[:2]]
        raise InputError(
            f"no two runs have a checkpoint at the same {align}",
            found=f"{shown[0]} in the first, {shown[1]} in the second",
            expected="at least one that is shared: coherence between checkpoints is not known",
            fix=another_alignment(runs, align),
        )


def another_alignment(runs: Sequence[xr.Dataset], align: str) -> str:
    """What to type for runs that this alignment does not fit: another one, if any does."""
    fits = {
        name: _any_shared([np.unique(root[name].values.astype(float)) for root in runs])
        for name in ("step", "epoch")
    }
    fits["loss"] = levels_of([training_loss(root) for root in runs]) is not None
    other = next((name for name, does in fits.items() if does and name != align), None)
    measure = "measure checkpoints at the same steps"
    if other is None:
        return f"{measure}: these runs share no step, epoch or training loss"
    return f"--align {other}, or {measure}"


def _any_shared(places: Sequence[np.ndarray]) -> bool:
    """Whether two runs have a checkpoint at the same place that is known."""
    every = np.concatenate([values[np.isfinite(values)] for values in places])
    return len(every) > len(np.unique(every))


def _shown(places: np.ndarray, align: str) -> str:
    """The first places of a run that are known, in words."""
    known = [f"{place:g}" for place in places if np.isfinite(place)]
    return f"{align} {listed(known, 4)}" if known else f"no {align} that is known"
