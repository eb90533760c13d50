"""The same example in several runs: how it pulls in each, and where the runs differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyze.comparison.runs import Run
from analyze.figures.looks import run_look
from analyze.figures.names import plain
from analyze.pages.cards import Card
from analyze.pages.pictures import pictures_of
from analyze.pages.sparkline import sparkline
from analyze.pages.text import rounded
from analyze.rankings.gallery import Gallery, gallery
from analyze.rankings.probe_file import probes_of_ids
from analyze.statistics.regrouping import provenance

SHOWN = 24  # examples on the page
SCORE = "suspicion"


def side_by_side(runs: Sequence[Run]) -> xr.Dataset | None:
    """How each example of the first run with directions pulls in every run that has them.

    Over ``run`` and ``probe``: ``suspicion`` over all checkpoints, its ``rank``, and each run's
    ``in_subset``, ``given_class`` and ``true_class`` of the example, empty where unknown; and
    ``cosine`` with the others at the run's own checkpoints, in the order of training (``order``).
    None with fewer than two such runs, or without a common example.
    """
    found = [(run, gallery(run.tree, None, evaluated=False)) for run in runs]
    known = [(run, one) for run, one in found if one is not None]
    if len(known) < 2:
        return None
    ids = known[0][1].ids
    sides = [_side(one, ids) for _, one in known]
    if not np.isfinite([side[SCORE] for side in sides]).all(0).any():
        return None
    longest = max(len(side["cosine"]) for side in sides)
    for side in sides:
        missing = np.full((longest - len(side["cosine"]), len(ids)), np.nan)
        side["cosine"] = np.concatenate([side["cosine"], missing])
    dims = {"cosine": ("run", "order", "probe")}
    dataset = xr.Dataset(
        {k: (dims.get(k, ("run", "probe")), np.stack([s[k] for s in sides])) for k in sides[0]},
        {"run": [run.name for run, _ in known], "probe": ids},
        {"ids_of": known[0][0].name},
    )
    empty = dict.fromkeys(("in_subset", "given_class", "true_class"), "")
    dataset = dataset.reindex(run=[r.name for r in runs], fill_value=empty | UNKNOWN)
    for name, text in MEANINGS.items():
        dataset[name].attrs = {"long_name": text, "units": "1"}
    return dataset


UNKNOWN = dict.fromkeys(("suspicion", "rank", "cosine"), np.nan)
MEANINGS = {
    "suspicion": "minus the cosine with the sum of the others' gradients, over all checkpoints",
    "rank": "rank by suspicion, from 1",
    "cosine": "cosine with the sum of the others' gradients at each checkpoint",
    "in_subset": "subset of the example in the run",
    "given_class": "given class of the example in the run",
    "true_class": "true class of the example",
}


def _side(one: Gallery, ids: np.ndarray) -> dict[str, np.ndarray]:
    """What one run says of these examples; NaN and empty texts where it does not have one."""
    place = {number: row for row, number in enumerate(one.ids.tolist())}
    rows = np.array([place.get(number, -1) for number in ids.tolist()])
    there = rows >= 0

    def numbers(values: np.ndarray) -> np.ndarray:
        return np.where(there, values[..., rows], np.nan)

    def texts(values: np.ndarray | None) -> np.ndarray:
        known = np.full(len(one.ids), "", dtype=object) if values is None else values.astype(object)
        return np.where(there, known[rows], "").astype(object)

    return {
        SCORE: numbers(one.scores[SCORE]), "rank": numbers(one.ranks[SCORE]),
        "cosine": numbers(one.pull.cosine), "in_subset": texts(one.subsets),
        "given_class": texts(one.labels.given), "true_class": texts(one.labels.true),
    }  # fmt: skip


def contents(comparison: xr.DataTree) -> dict[str, Any]:
    """What the template shows of examples: cards of those that differ most, and why no pictures."""
    if "examples" not in comparison.children:
        return {"examples": [], "examples_missing": ""}
    table = comparison.children["examples"].to_dataset(inherit=False)
    everyone = [str(name) for name in comparison.to_dataset()["run"].values]
    table = table.assign_coords(run=everyone)  # which the group has from its parent
    known = np.isfinite(table[SCORE].transpose("run", "probe").values).any(axis=1)
    table = table.isel(run=np.flatnonzero(known))
    names = [str(name) for name in table["run"].values]
    scores = table[SCORE].transpose("run", "probe").values
    spread = np.where(np.isfinite(scores).all(0), np.ptp(scores, axis=0), np.nan)
    order = np.argsort(-np.nan_to_num(spread, nan=-1.0), kind="stable")[:SHOWN]
    rows = [int(row) for row in order if np.isfinite(spread[row])]
    origin = provenance(comparison)["runs"][table.attrs["ids_of"]]
    probes, missing = probes_of_ids(table["probe"].values, origin)
    pictures = [None] * len(rows) if probes is None else pictures_of(probes, rows)
    cards = []
    for row, picture in zip(rows, pictures, strict=True):
        at = table.isel(probe=row)
        standings = []
        for k, name in enumerate(names):
            colour = run_look(everyone.index(name)).colour
            label = str(at["given_class"].values[k]) or str(at["in_subset"].values[k])
            value, rank = rounded(float(scores[k, row])), float(at["rank"].values[k])
            words = f"{name}: {label}, {value}, rank {rank:,.0f}"
            course = at["cosine"].transpose("run", "order").values[k]
            standings.append((plain(words), sparkline(np.arange(len(course)), course, colour)))
        true = next((str(t) for t in at["true_class"].values if t), "")
        pictured = picture if picture and (picture.uri or picture.text) else None
        colour = run_look(everyone.index(names[0])).colour
        cards.append(Card(int(at["probe"]), pictured, colour, plain(true), "", standings))
    return {"examples": cards, "examples_missing": missing}
