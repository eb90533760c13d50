"""The comparison: results of several runs in, one tree with a dimension ``run`` out, and a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from analyze.comparison import matching, pairs
from analyze.comparison.alignment import aligned
from analyze.comparison.display import Comparison
from analyze.comparison.events import at_equal_loss, first_difference, peaks
from analyze.comparison.examples import side_by_side
from analyze.comparison.groups import check_groups, over_seeds
from analyze.comparison.loss_levels import in_order
from analyze.comparison.matching import check_probes
from analyze.comparison.one_run import OneRun
from analyze.comparison.page import check_output, write_comparison
from analyze.comparison.runs import Run, Source, differing_settings, open_runs
from analyze.figures.style import of_width
from analyze.results.provenance import ALIGNMENTS
from analyze.results.sides import sides
from analyze.results.tree import SCHEMA_VERSION
from analyze.results.variables import described_comparison
from analyze.statistics import group_by
from analyze.statistics.sizes import (
    OF_RUNS,
    SHOWN_AT,
    SMALLEST,
    ShownSize,
    size_choice,
    smallest,
)  # fmt: skip


def compare(
    results: Sequence[Source] | Mapping[str, Source],
    *,
    output: str | Path | None = None,
    align: str = "step",
    rename: Iterable[str] = (),
    by: str = "layer",
    different_probes: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    ratios: Iterable[str] = (),
    figure_width: str | float = "page",
    at_size: str | int = SMALLEST,
) -> xr.DataTree:
    """Several runs side by side, with the ratio of coherence between every two of them.

    Args:
        results: 2 to 20 results files or trees; a mapping names them, else a file's name does.
        output: A directory for ``index.html``, ``figures`` and ``comparison.h5``; without it
            nothing is written.
        align: ``step`` or ``epoch``: checkpoints at the same one belong together. Nothing is
            interpolated; what a run has no checkpoint for is NaN. ``loss``: runs at the same
            training loss, interpolated between checkpoints, as ``comparison.loss_levels`` says.
        rename: ``OLD=NEW`` for layers that have other names in other runs.
        by: Rows for ``layer``, ``block`` or ``parameter``, as in ``statistics.group_by``.
        different_probes: Compare runs with other inputs too; ``probes`` tells which those are, and
            their errors are those of independent samples.
        groups: Runs that differ in their seed only, by the name of their configuration. It takes
            the place of its runs in all pairs, and is tested over its seeds.
        ratios: Pairs, ``B / A``, with a figure besides those that have one anyway.
        figure_width: The figures' width in print, as for ``report``.
        at_size: The number of examples at which all are compared and shown; ``smallest``, the
            fewest that a subset of a run has; or ``alpha``: figures, cards and, at first, the page
            show unbiased alpha, while ratios and key events are those at the smallest size.

    Returns:
        A tree whose groups have the schema of a results file with ``run`` first: ``/`` loss,
        accuracy and status; ``/network`` and ``/layers`` m-coherence, each run at its own m;
        ``/pairs/network`` and ``/pairs/layers`` what ``log_ratio`` gives, over ``pair``;
        ``/groups/network`` and ``/groups/layers`` what ``over_seeds`` gives, where there are
        groups; ``/events`` peaks, first significant differences, and coherence at equal training
        loss; ``/examples``, where two runs measured directions, the suspicion of every example in
        each, over ``probe``. Pairs, groups and events are at ``compared_at`` examples, as
        ``at_size`` says.

    Raises:
        InputError: too few or too many runs, different probes, nothing that is shared; a directory
            that cannot be written to or has other files of these names; no such pair or size.

    Example:
        ``analyze.compare(["half_noise.h5", "real_labels.h5"], output="comparison")``

    Cost: that of the jackknife for every layer and checkpoint of each run, seconds for a hundred
    of each; nothing is measured.
    """
    if output is not None:
        check_output(Path(output))
    choice = size_choice(at_size, OF_RUNS)
    named = {name: _texts(runs) for name, runs in (groups or {}).items()}
    tree = _tree(results, align, _texts(rename), by, different_probes, named, choice)
    if output is not None:
        with of_width(figure_width):
            write_comparison(tree, Path(output), _texts(ratios))
    return tree


def _texts(value: Iterable[str]) -> list[str]:
    """Texts; one alone, which would be taken for its letters, stands for itself."""
    return [value] if isinstance(value, str) else list(value)


def _tree(
    results: Sequence[Source] | Mapping[str, Source],
    align: str,
    rename: Iterable[str],
    by: str,
    different_probes: bool,
    groups: Mapping[str, Sequence[str]],
    choice: str | int,
) -> xr.DataTree:
    """The tree of ``compare``."""
    runs = [Run(run.name, in_order(run.tree)) for run in open_runs(results)]
    probes = check_probes(runs, different_allowed=different_probes)
    check_groups(groups, [run.name for run in runs])
    against = sides([run.name for run in runs], groups)
    names = matching.rename_map(rename)
    each = [OneRun(run, group_by(run.tree, by), names) for run in runs]
    matching.check_renames(names, (name for one in each for name in one.rows()))
    places = aligned(runs, align)
    root = places.stacked([places.root(one.root(), k) for k, one in enumerate(each)])
    root = root.assign(probes=("run", np.array(probes, dtype=object)))
    size = choice if isinstance(choice, int) else smallest(root["probe_count"].values)
    at_one_size = ShownSize(SMALLEST, size)
    tables, measured, shown = {"/": root}, {}, {}
    for name in ("network", "layers"):
        measured[name] = [one.alpha(name) for one in each]
        alphas = [places.alpha(alpha, k) for k, alpha in enumerate(measured[name])]
        table = places.stacked(
            [places.measures(one.measures(name), alphas[k], k) for k, one in enumerate(each)]
        )
        shown[name] = at_one_size.of(table, root["probe_count"])
        tables[f"/{name}"] = table
        tables[f"/pairs/{name}"] = pairs.ratios(places, against, alphas, shown[name], size)
        if groups:
            tables[f"/groups/{name}"] = over_seeds(shown[name], groups, size).assign(
                compared_at=size
            )
    along = ALIGNMENTS[align]
    events = peaks(shown["network"], along).assign(compared_at=size)
    if groups:
        events = events.merge(peaks(tables["/groups/network"], along, prefix="group_"))
    first = first_difference(tables["/pairs/network"], along)
    equal = at_equal_loss(measured["network"], runs, size).reindex(subset=root["subset"].values)
    tables["/events"] = events.assign({str(first.name): first}).merge(equal)
    if (examples := side_by_side(runs)) is not None:
        tables["/examples"] = examples
    tree = Comparison.from_dict({k: described_comparison(v) for k, v in tables.items()})
    provenance = {
        "runs": {run.name: run.provenance for run in runs},
        "align": align,
        "renamed": names,
        "groups": {name: list(members) for name, members in groups.items()},
        "differing_settings": differing_settings(runs),
    }
    tree.attrs = {"schema_version": SCHEMA_VERSION, "provenance": json.dumps(provenance)}
    if choice != SMALLEST:
        tree.attrs[SHOWN_AT] = choice
    return tree
