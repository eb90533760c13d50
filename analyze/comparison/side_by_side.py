"""The comparison: results of several runs in, one tree with a dimension ``run`` out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import xarray as xr

from analyze.comparison import matching
from analyze.comparison.events import first_difference, peaks
from analyze.comparison.pairs import folds_pair, log_ratio
from analyze.comparison.probe_identity import check_probes, same_probes
from analyze.comparison.runs import Run, Source, open_runs
from analyze.comparison.settings import differing_settings
from analyze.comparison.variables import described
from analyze.errors import InputError
from analyze.results import SCHEMA_VERSION
from analyze.statistics import estimate, group_by
from analyze.statistics.grouping import block_of

NO_CHECKPOINT = "no checkpoint here"
MEASURES = ("m_coherence", "m_coherence_stderr", "m_coherence_lower", "m_coherence_upper",
            "alpha_unbiased", "alpha_unbiased_stderr", "null_lower", "null_upper")  # fmt: skip


def compare(
    results: Sequence[Source] | Mapping[str, Source],
    *,
    align: str = "step",
    rename: Iterable[str] = (),
    by: str = "layer",
    different_probes: bool = False,
) -> xr.DataTree:
    """Several runs side by side, with the ratio of coherence between every two of them.

    Args:
        results: 2 to 20 results files or trees; a mapping names them, else a file's name does.
        align: ``step`` or ``epoch``: checkpoints at the same one belong together. Nothing is
            interpolated; what a run has no checkpoint for is NaN.
        rename: ``OLD=NEW`` for layers that have other names in other runs.
        by: Rows for ``layer``, ``block`` or ``parameter``, as in ``statistics.group_by``.
        different_probes: Compare runs with other inputs too; ``probes`` tells which those are, and
            their errors are those of independent samples.

    Returns:
        A tree whose groups have the schema of a results file with ``run`` first: ``/`` loss,
        accuracy and status; ``/network`` and ``/layers`` m-coherence; ``/pairs/network`` and
        ``/pairs/layers`` what ``log_ratio`` gives, over ``pair``; ``/events`` peaks and first
        significant differences.

    Raises:
        InputError: too few or too many runs, different probes, nothing that is shared.

    Cost: that of the jackknife for every layer and checkpoint of each run, seconds for a hundred
    of each; nothing is measured.
    """
    runs = open_runs(results)
    probes = check_probes(runs, different_allowed=different_probes)
    names = matching.rename_map(rename)
    trees = [group_by(run.tree, by) for run in runs]
    matching.check_renames(
        names, (str(n) for t in trees for n in t["layers"].to_dataset()["layer"].values)
    )
    aligned = _Aligned(runs, align)
    root = aligned.stacked([_root(tree) for tree in trees])
    layers = [_layers(t, names, r.name) for t, r in zip(trees, runs, strict=True)]
    groups = {
        "/": root.assign(probes=("run", np.array(probes, dtype=object))),
        "/network": aligned.stacked([_network(tree) for tree in trees]),
        "/layers": aligned.stacked(layers),
    }
    groups |= {
        f"/pairs/{name}": aligned.pairs(trees, names, name, like=groups[f"/{name}"])
        for name in ("network", "layers")
    }
    groups["/events"] = _events(groups, align)
    tree = xr.DataTree.from_dict({k: described(v) for k, v in groups.items()})
    tree.attrs = {"schema_version": SCHEMA_VERSION, "provenance": _provenance(runs, align, names)}
    return tree


class _Aligned:
    """Runs on the places that any of them has a checkpoint at."""

    def __init__(self, runs: Sequence[Run], align: str) -> None:
        self.runs, self.align = runs, align
        self.places = [matching.places(run.tree.to_dataset(), align, run.name) for run in runs]
        matching.check_shared(self.places, align)
        every = np.concatenate(self.places)
        self.every = np.unique(every[np.isfinite(every)])

    def placed(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """With ``checkpoint`` named by its place, and without those that have none."""
        places = self.places[run]
        known = np.isfinite(places)
        bare = dataset.drop_vars(["step", "epoch"], errors="ignore").isel(checkpoint=known)
        return bare.assign_coords(checkpoint=self.labels(places[known]))

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Names of places: ``step 32``."""
        return np.array([f"{self.align} {place:.15g}" for place in places], dtype=object)

    def with_places(self, dataset: xr.Dataset) -> xr.Dataset:
        """On all places, with ``step`` and ``epoch``: the one aligned by, NaN for the other."""
        nothing = np.full(len(self.every), np.nan)
        wide = dataset.reindex(checkpoint=self.labels(self.every))
        values = {"step": nothing, "epoch": nothing, self.align: self.every}
        return wide.assign_coords({k: ("checkpoint", v) for k, v in values.items()})

    def stacked(self, datasets: Sequence[xr.Dataset]) -> xr.Dataset:
        """One data set with ``run`` first; layers and subsets in the order they first appear."""
        placed = [self.placed(dataset, k) for k, dataset in enumerate(datasets)]
        for dimension in ("layer", "subset"):
            if dimension in placed[0].dims:
                every = dict.fromkeys(n for d in placed for n in d[dimension].values)
                placed = [d.reindex({dimension: list(every)}) for d in placed]
        wide = [self.with_places(dataset) for dataset in placed]
        names = xr.DataArray(
            np.array([run.name for run in self.runs], dtype=object), dims="run", name="run"
        )
        joined = xr.concat(
            wide, names, data_vars="all", coords="minimal", compat="override", join="exact"
        )
        if "status" in joined:
            joined["status"] = joined["status"].where(joined["status"].notnull(), NO_CHECKPOINT)
            joined["probe_count"] = joined["probe_count"].fillna(0).astype(np.int64).drop_encoding()
        return joined.transpose("run", "checkpoint", ...)

    def pairs(
        self,
        trees: Sequence[xr.DataTree],
        renames: Mapping[str, str],
        layers: str,
        like: xr.Dataset,
    ) -> xr.Dataset:
        """The ratios of every two runs, with the layers and subsets of ``like``."""
        alphas = [self._alpha(tree, k, layers, renames) for k, tree in enumerate(trees)]
        rows = {d: like[d].values for d in ("layer", "subset") if d in like.dims}
        two = list(combinations(range(len(trees)), 2))
        found = [self._ratio(alphas, a, b).reindex(rows) for a, b in two]
        pair = [f"{self.runs[b].name} / {self.runs[a].name}" for a, b in two]
        label = xr.DataArray(np.array(pair, dtype=object), dims="pair", name="pair")
        joined = xr.concat(
            found, label, data_vars="all", coords="minimal", compat="override", join="exact"
        )
        return joined.transpose("pair", "checkpoint", ...)

    def _alpha(
        self, tree: xr.DataTree, run: int, layers: str, renames: Mapping[str, str]
    ) -> xr.Dataset:
        """Unbiased alpha with its replicates, by place."""
        rows = [str(name) for name in tree["layers"].to_dataset()["layer"].values]
        found = _estimated(tree, layers, rows)
        if "layer" in found.dims:
            own = [str(name) for name in found["layer"].values]
            names = matching.renamed(own, renames, self.runs[run].name)
            found = found.assign_coords(layer=np.array(names, dtype=object))
        return self.placed(found, run)

    def _ratio(self, alphas: Sequence[xr.Dataset], a: int, b: int) -> xr.Dataset:
        first, second = alphas[a], alphas[b]
        runs = self.runs[a], self.runs[b]
        shared = {}
        for dimension in ("checkpoint", "layer", "subset"):
            if dimension in first.dims:
                partners = set(second[dimension].values)
                shared[dimension] = [n for n in first[dimension].values if n in partners]
        if not all(shared.values()):
            lacking = next(name for name, values in shared.items() if not values)
            raise InputError(
                f"two runs have no {lacking} in common",
                found=f"{runs[0].name} and {runs[1].name}",
                expected=f"at least one {lacking} that both have",
                fix="leave one of them out, or --rename OLD=NEW for layers of other names",
            )
        sizes = [min(run.counts[name] for run in runs) for name in shared["subset"]]
        count = xr.DataArray(sizes, dims="subset", coords={"subset": shared["subset"]})
        same, _ = same_probes(*runs)
        paired = folds_pair(*runs, same=same)
        found = log_ratio(first.sel(shared), second.sel(shared), count, paired=paired)
        found["compared_at"] = count.astype(float)
        found["paired"] = xr.DataArray(paired)
        return self.with_places(found)


def _estimated(tree: xr.DataTree, layers: str, rows: Sequence[str]) -> xr.Dataset:
    """Unbiased alpha of the network, or of each row of a tree that may have been regrouped."""
    if layers == "network":
        return estimate(tree, "alpha_unbiased")
    own = list(dict.fromkeys(str(n) for n in tree["parameters"].to_dataset()["layer"].values))
    if list(rows) == own:
        return estimate(tree, "alpha_unbiased", layers="layers")
    return estimate(_regrouped(tree, rows), "alpha_unbiased", layers="layers")


def _regrouped(tree: xr.DataTree, rows: Sequence[str]) -> xr.DataTree:
    """The sufficient statistics with each parameter's row of a regrouped tree as its layer."""
    table = tree.children["parameters"].to_dataset(inherit=False)
    names = [str(name) for name in table["parameter"].values]
    if set(rows) != set(names):
        names = [block_of(str(layer)) for layer in table["layer"].values]
    parameters = table.assign_coords(layer=("parameter", np.array(names, dtype=object)))
    result = tree.copy()
    result["parameters"] = xr.DataTree(parameters)
    if "examples" in result.children:  # by layers that are no rows any more
        del result["examples"]
    return result


def _root(tree: xr.DataTree) -> xr.Dataset:
    root = tree.to_dataset()
    kept = root[["loss", "accuracy", "probe_count"]].reset_coords(drop=True)
    return kept.assign(status=("checkpoint", root["status"].values.astype(object)))


def _network(tree: xr.DataTree) -> xr.Dataset:
    dataset = tree["network"].to_dataset()
    return dataset[[n for n in MEASURES if n in dataset]].reset_coords(drop=True)


def _layers(tree: xr.DataTree, renames: Mapping[str, str], run: str) -> xr.Dataset:
    dataset = tree["layers"].to_dataset()
    names = matching.renamed([str(n) for n in dataset["layer"].values], renames, run)
    kept = dataset[[n for n in MEASURES if n in dataset]].reset_coords(drop=True)
    kept = kept.assign_coords(layer=np.array(names, dtype=object))
    return kept.assign(present=("layer", np.ones(len(names))))


def _events(groups: Mapping[str, xr.Dataset], along: str) -> xr.Dataset:
    found = peaks(groups["/network"], along)
    first = first_difference(groups["/pairs/network"], along)
    return found.assign({str(first.name): first})


def _provenance(runs: Sequence[Run], align: str, renames: Mapping[str, str]) -> str:
    return json.dumps(
        {
            "runs": {run.name: run.provenance for run in runs},
            "align": align,
            "renamed": dict(renames),
            "differing_settings": differing_settings(runs),
        }
    )
