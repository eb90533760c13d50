"""The runs of a comparison: their names, results and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyze.errors import InputError, listed
from analyze.pages.facts import has_batch_norm
from analyze.results.file import tree_of
from analyze.statistics.regrouping import provenance

FEWEST, MOST = 2, 20
# Fields that differ between any two runs, or are shown elsewhere.
APART = {
    "created", "command", "checkpoints", "plan", "proof", "verification", "warnings", "batch_size",
}  # fmt: skip

CARD, TRAINING, MEASUREMENT = "Run card", "Training settings", "Measurement"
OF_CARD = {"run", "model", "probes", "loss"}

Source = str | Path | xr.DataTree


@dataclass(frozen=True)
class Run:
    """One run of a comparison, with a name of its own."""

    name: str
    tree: xr.DataTree

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The provenance of the results; of batch norm where the network has some."""
        origin = provenance(self.tree)
        if not has_batch_norm(self.tree):
            origin.pop("batch_norm", None)
        return origin

    @cached_property
    def folds(self) -> list[int]:
        """The folds of the cells."""
        return [int(k) for k in np.unique(self.tree["parameters"].to_dataset()["cell_fold"])]

    @cached_property
    def subsets(self) -> list[str]:
        """The subsets, with ``all``."""
        return [str(name) for name in self.tree.to_dataset()["subset"].values]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of probes of each subset."""
        counts = self.tree.to_dataset()["probe_count"].values
        return {name: int(n) for name, n in zip(self.subsets, counts, strict=True)}

    @property
    def count(self) -> xr.DataArray:
        """The number of probes, ``(subset)``."""
        return xr.DataArray(list(self.counts.values()), {"subset": self.subsets}, ["subset"])


def open_runs(results: Sequence[Source] | Mapping[str, Source]) -> list[Run]:
    """The runs in their order, named by the keys of a mapping or else by their files.

    Raises:
        InputError: fewer than 2 or more than 20, two of one name, or no results file.
    """
    named: list[tuple[str, Source]]
    if isinstance(results, str | Path | xr.DataTree):  # a tree is a mapping, a text a sequence
        named = [(_name(results, 0), results)]
    elif isinstance(results, Mapping):
        named = [(str(name), source) for name, source in results.items()]
    else:
        named = [(_name(source, k), source) for k, source in enumerate(results)]
    if not FEWEST <= len(named) <= MOST:
        raise InputError(
            "a comparison is of several runs",
            found=f"{len(named)} results files or trees",
            expected=f"from {FEWEST} to {MOST}: more cannot be told apart in one figure",
            fix="analyze compare A.h5 B.h5",
        )
    names = [name for name, _ in named]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(
            "two runs have the same name",
            found=f"{listed(twice)}, given more than once",
            expected="a name of its own for each run; a file's name without .h5 is its run's",
            fix="rename a file, or in Python: compare({'first': 'a/run.h5', 'second': 'b/run.h5'})",
        )
    return [Run(name, tree_of(source)) for name, source in named]


def joined(datasets: Sequence[xr.Dataset], names: Sequence[str], dimension: str) -> xr.Dataset:
    """Data sets with the same labels joined along a new first dimension of names."""
    label = xr.DataArray(np.array(names, dtype=object), dims=dimension, name=dimension)
    return xr.concat(
        datasets, label, data_vars="all", coords="minimal", compat="override", join="exact"
    ).transpose(dimension, ...)


def _name(source: Source, place: int) -> str:
    return Path(source).stem if isinstance(source, str | Path) else f"run {place + 1}"


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The values in each run of settings that are not the same in all; ``-`` for none."""
    flat = [_flat({k: v for k, v in run.provenance.items() if k not in APART}) for run in runs]
    keys = list(dict.fromkeys(key for run in flat for key in run))
    table = {key: [run.get(key, "-") for run in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted names."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def grouped(table: Mapping[str, list[str]]) -> list[tuple[str, dict[str, list[str]]]]:
    """Settings under the heads of the page; heads without settings are left out."""
    heads: dict[str, dict[str, list[str]]] = {CARD: {}, TRAINING: {}, MEASUREMENT: {}}
    for key, values in table.items():
        first = key.partition(".")[0]
        head = CARD if first in OF_CARD else TRAINING if first == "training" else MEASUREMENT
        heads[head][key] = values
    return [(head, rows) for head, rows in heads.items() if rows]
