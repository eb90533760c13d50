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
from analyze.comparison.display import Comparison
from analyze.comparison.events import at_equal_loss, first_difference, peaks
from analyze.comparison.examples import side_by_side
from analyze.comparison.groups import check_groups, over_seeds
from analyze.comparison.loss_levels import in_order
from analyze.comparison.matching import check_probes, same_probes
from analyze.comparison.runs import Run, Source, differing_settings, joined, open_runs
from analyze.errors import InputError
from analyze.results.provenance import ALIGNMENTS
from analyze.results.tree import SCHEMA_VERSION
from analyze.results.variables import described_comparison
from analyze.statistics import estimate, group_by
from analyze.statistics.grouping import with_rows
from analyze.statistics.ratios import log_ratio

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
        first significant differences, and coherence at equal training loss; ``/examples``, where
        two runs measured directions, the suspicion of every example in each, over ``probe``.

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
    root = places.stacked([places.root(side.root(), k) for k, side in enumerate(sides)])
    root = root.assign(probes=("run", np.array(probes, dtype=object)))
    tables, measured = {"/": root}, {}
    for name in ("network", "layers"):
        measured[name] = [side.alpha(name) for side in sides]
        alphas = [places.alpha(alpha, k) for k, alpha in enumerate(measured[name])]
        tables[f"/{name}"] = places.stacked(
            [places.measures(s.measures(name), alphas[k], k) for k, s in enumerate(sides)]
        )
        tables[f"/pairs/{name}"] = _pairs(places, alphas, tables[f"/{name}"])
        if groups:
            counts = root["probe_count"]
            tables[f"/groups/{name}"] = over_seeds(tables[f"/{name}"], counts, groups)
    along = ALIGNMENTS[align]
    first = first_difference(tables["/pairs/network"], along)
    equal = at_equal_loss(measured["network"], runs).reindex(subset=root["subset"].values)
    events = peaks(tables["/network"], along).assign({str(first.name): first}).merge(equal)
    tables["/events"] = events
    if (examples := side_by_side(runs)) is not None:
        tables["/examples"] = examples
    tree = Comparison.from_dict({k: described_comparison(v) for k, v in tables.items()})
    provenance = {
        "runs": {run.name: run.provenance for run in runs},
        "align": align,
        "renamed": names,
        "groups": {name: list(members) for name, members in (groups or {}).items()},
        "differing_settings": differing_settings(runs),
    }
    tree.attrs = {"schema_version": SCHEMA_VERSION, "provenance": json.dumps(provenance)}
    return tree


@dataclass(frozen=True)
class _Side:
    """One run of the comparison, its tree with the rows asked for, and new names of these."""

    run: Run
    tree: xr.DataTree
    renames: Mapping[str, str]

    def rows(self) -> list[str]:
        """The layers, or their groups, by the names of the results."""
        return [str(name) for name in self.tree["layers"].to_dataset()["layer"].values]

    def root(self) -> xr.Dataset:
        """Loss, accuracy, status and the numbers of probes."""
        root = self.tree.to_dataset()
        kept = root[["loss", "accuracy", "probe_count"]].reset_coords(drop=True)
        return kept.assign(status=("checkpoint", root["status"].values.astype(object)))

    def measures(self, group: str) -> xr.Dataset:
        """Measures of the network or of the rows at the run's checkpoints."""
        dataset = self.tree[group].to_dataset()
        kept = dataset[[n for n in MEASURES if n in dataset]].reset_coords(drop=True)
        if group == "network":
            return kept
        return self._renamed(kept).assign(present=("layer", np.ones(kept.sizes["layer"])))

    def alpha(self, group: str) -> xr.Dataset:
        """Unbiased alpha and its replicates, of the network or of the rows."""
        if group == "network":
            return estimate(self.tree, "alpha_unbiased")
        tree = with_rows(self.tree, self.rows())
        return self._renamed(estimate(tree, "alpha_unbiased", layers="layers"))

    def _renamed(self, dataset: xr.Dataset) -> xr.Dataset:
        names = [str(name) for name in dataset["layer"].values]
        new = matching.renamed(names, self.renames, self.run.name)
        return dataset.assign_coords(layer=np.array(new, dtype=object))


def _pairs(places: Aligned, alphas: Sequence[xr.Dataset], like: xr.Dataset) -> xr.Dataset:
    """The ratios of every two runs, with the layers and subsets of ``like``."""
    runs = places.runs
    rows = {d: like[d].values for d in ("layer", "subset") if d in like.dims}
    two = list(combinations(range(len(runs)), 2))
    ratios = [places.with_places(_ratio(runs, alphas, a, b)).reindex(rows) for a, b in two]
    names = [f"{runs[b].name} / {runs[a].name}" for a, b in two]
    return joined(ratios, names, "pair").transpose("pair", "checkpoint", ...)


def _ratio(runs: Sequence[Run], alphas: Sequence[xr.Dataset], a: int, b: int) -> xr.Dataset:
    first, second, pair = alphas[a], alphas[b], (runs[a], runs[b])
    shared = {}
    for dimension in ("checkpoint", "layer", "subset"):
        if dimension in first.dims:
            partners = set(second[dimension].values)
            shared[dimension] = [n for n in first[dimension].values if n in partners]
    if not all(shared.values()):
        lacking = next(name for name, values in shared.items() if not values)
        raise InputError(
            f"two runs have no {lacking} in common",
            found=f"{pair[0].name} and {pair[1].name}",
            expected=f"at least one {lacking} that both have",
            fix="leave one of them out, or --rename OLD=NEW for layers of other names",
        )
    sizes = [min(run.counts[name] for run in pair) for name in shared["subset"]]
    count = xr.DataArray(sizes, dims="subset", coords={"subset": shared["subset"]})
    same, _ = same_probes(*pair)
    paired = same and pair[0].folds == pair[1].folds and len(pair[0].folds) > 1
    ratio = log_ratio(first.sel(shared), second.sel(shared), count, paired=paired)
    return ratio.assign(compared_at=count.astype(float), paired=xr.DataArray(paired))
