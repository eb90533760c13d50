"""The comparison: results of several runs in, one tree with a dimension ``run`` out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr

from analyze.comparison import matching
from analyze.comparison.alignment import Aligned, aligned
from analyze.comparison.events import at_equal_loss, first_difference, peaks
from analyze.comparison.groups import check_groups, over_seeds
from analyze.comparison.loss_levels import in_order
from analyze.comparison.pairs import folds_pair, log_ratio
from analyze.comparison.probe_identity import check_probes, same_probes
from analyze.comparison.runs import Run, Source, open_runs
from analyze.comparison.settings import differing_settings
from analyze.comparison.variables import described
from analyze.errors import InputError
from analyze.results.tree import SCHEMA_VERSION
from analyze.statistics import estimate, group_by
from analyze.statistics.grouping import block_of

MEASURES = ("m_coherence", "m_coherence_stderr", "m_coherence_lower", "m_coherence_upper",
            "alpha_unbiased", "alpha_unbiased_stderr", "null_lower", "null_upper")  # fmt: skip


def compare(
    results: Sequence[Source] | Mapping[str, Source],
    *,
    align: str = "step",
    rename: Iterable[str] = (),
    by: str = "layer",
    different_probes: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> xr.DataTree:
    """Several runs side by side, with the ratio of coherence between every two of them.

    Args:
        results: 2 to 20 results files or trees; a mapping names them, else a file's name does.
        align: ``step`` or ``epoch``: checkpoints at the same one belong together. Nothing is
            interpolated; what a run has no checkpoint for is NaN. ``loss``: runs at the same
            training loss, interpolated between checkpoints, as ``comparison.loss_levels`` says.
        rename: ``OLD=NEW`` for layers that have other names in other runs.
        by: Rows for ``layer``, ``block`` or ``parameter``, as in ``statistics.group_by``.
        different_probes: Compare runs with other inputs too; ``probes`` tells which those are, and
            their errors are those of independent samples.
        groups: Names of runs that are seeds of one configuration, by the name of that.

    Returns:
        A tree whose groups have the schema of a results file with ``run`` first: ``/`` loss,
        accuracy and status; ``/network`` and ``/layers`` m-coherence; ``/pairs/network`` and
        ``/pairs/layers`` what ``log_ratio`` gives, over ``pair``; ``/groups/network`` and
        ``/groups/layers`` what ``over_seeds`` gives, where there are groups; ``/events`` peaks,
        first significant differences, and coherence at equal training loss.

    Raises:
        InputError: too few or too many runs, different probes, nothing that is shared.

    Example:
        ``analyze.compare(["half_noise.h5", "real_labels.h5"])["pairs/network"]``

    Cost: that of the jackknife for every layer and checkpoint of each run, seconds for a hundred
    of each; nothing is measured.
    """
    runs = [Run(run.name, in_order(run.tree)) for run in open_runs(results)]
    probes = check_probes(runs, different_allowed=different_probes)
    check_groups(groups or {}, [run.name for run in runs])
    names = matching.rename_map(rename)
    sides = [_Side(run, group_by(run.tree, by), names) for run in runs]
    matching.check_renames(names, (name for side in sides for name in side.rows()))
    places = aligned(runs, align)
    root = places.stacked([places.root(_root(side.tree), k) for k, side in enumerate(sides)])
    root = root.assign(probes=("run", np.array(probes, dtype=object)))
    tables = {"/": root}
    given = {}
    for name, bare in (("network", _network), ("layers", _layers)):
        given[name] = [side.alpha(name) for side in sides]
        alphas = [places.alpha(alpha, k) for k, alpha in enumerate(given[name])]
        tables[f"/{name}"] = places.stacked(
            [places.measures(bare(s), alphas[k], k) for k, s in enumerate(sides)]
        )
        tables[f"/pairs/{name}"] = _pairs(places, alphas, tables[f"/{name}"])
        if groups:
            counts = root["probe_count"]
            tables[f"/groups/{name}"] = over_seeds(tables[f"/{name}"], counts, groups)
    equal = at_equal_loss(given["network"], runs).reindex(subset=root["subset"].values)
    tables["/events"] = _events(tables, matching.ALIGNMENTS[align]).merge(equal)
    tree = xr.DataTree.from_dict({k: described(v) for k, v in tables.items()})
    tree.attrs = {
        "schema_version": SCHEMA_VERSION,
        "provenance": _provenance(runs, align, names, groups or {}),
    }
    return tree


@dataclass(frozen=True)
class _Side:
    """One run of the comparison: its rows, and unbiased alpha with replicates at its own places."""

    run: Run
    tree: xr.DataTree
    names: Mapping[str, str]

    def rows(self) -> list[str]:
        """The layers, or what they were grouped to, by the names of the results."""
        return [str(name) for name in self.tree["layers"].to_dataset()["layer"].values]

    def alpha(self, layers: str) -> xr.Dataset:
        """Of the network or of the rows, by the names of the comparison."""
        found = _estimated(self.tree, layers, self.rows())
        if "layer" not in found.dims:
            return found
        own = [str(name) for name in found["layer"].values]
        names = matching.renamed(own, self.names, self.run.name)
        return found.assign_coords(layer=np.array(names, dtype=object))


def _pairs(places: Aligned, alphas: Sequence[xr.Dataset], like: xr.Dataset) -> xr.Dataset:
    """The ratios of every two runs, with the layers and subsets of ``like``."""
    runs = places.runs
    rows = {d: like[d].values for d in ("layer", "subset") if d in like.dims}
    two = list(combinations(range(len(runs)), 2))
    found = [places.with_places(_ratio(runs, alphas, a, b)).reindex(rows) for a, b in two]
    pair = [f"{runs[b].name} / {runs[a].name}" for a, b in two]
    label = xr.DataArray(np.array(pair, dtype=object), dims="pair", name="pair")
    joined = xr.concat(
        found, label, data_vars="all", coords="minimal", compat="override", join="exact"
    )
    return joined.transpose("pair", "checkpoint", ...)


def _ratio(runs: Sequence[Run], alphas: Sequence[xr.Dataset], a: int, b: int) -> xr.Dataset:
    first, second, two = alphas[a], alphas[b], (runs[a], runs[b])
    shared = {}
    for dimension in ("checkpoint", "layer", "subset"):
        if dimension in first.dims:
            partners = set(second[dimension].values)
            shared[dimension] = [n for n in first[dimension].values if n in partners]
    if not all(shared.values()):
        lacking = next(name for name, values in shared.items() if not values)
        raise InputError(
            f"two runs have no {lacking} in common",
            found=f"{two[0].name} and {two[1].name}",
            expected=f"at least one {lacking} that both have",
            fix="leave one of them out, or --rename OLD=NEW for layers of other names",
        )
    sizes = [min(run.counts[name] for run in two) for name in shared["subset"]]
    count = xr.DataArray(sizes, dims="subset", coords={"subset": shared["subset"]})
    same, _ = same_probes(*two)
    paired = folds_pair(*two, same=same)
    found = log_ratio(first.sel(shared), second.sel(shared), count, paired=paired)
    found["compared_at"] = count.astype(float)
    found["paired"] = xr.DataArray(paired)
    return found


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


def _network(side: _Side) -> xr.Dataset:
    dataset = side.tree["network"].to_dataset()
    return dataset[[n for n in MEASURES if n in dataset]].reset_coords(drop=True)


def _layers(side: _Side) -> xr.Dataset:
    dataset = side.tree["layers"].to_dataset()
    names = matching.renamed(side.rows(), side.names, side.run.name)
    kept = dataset[[n for n in MEASURES if n in dataset]].reset_coords(drop=True)
    kept = kept.assign_coords(layer=np.array(names, dtype=object))
    return kept.assign(present=("layer", np.ones(len(names))))


def _events(groups: Mapping[str, xr.Dataset], along: str) -> xr.Dataset:
    found = peaks(groups["/network"], along)
    first = first_difference(groups["/pairs/network"], along)
    return found.assign({str(first.name): first})


def _provenance(
    runs: Sequence[Run],
    align: str,
    renames: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
) -> str:
    return json.dumps(
        {
            "runs": {run.name: run.provenance for run in runs},
            "align": align,
            "renamed": dict(renames),
            "groups": {name: list(members) for name, members in groups.items()},
            "differing_settings": differing_settings(runs),
        }
    )
