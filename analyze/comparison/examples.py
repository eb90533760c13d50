"""The same example in several runs: how it pulls in each, and where the runs differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyze.comparison.runs import Run
from analyze.figures.looks import run_look
from analyze.figures.names import plain
from analyze.figures.run_lines import run_styles
from analyze.pages.cards import Card
from analyze.pages.pictures import Picture, pictures_of
from analyze.pages.sparkline import sparkline
from analyze.pages.text import rounded
from analyze.rankings.gallery import Gallery, gallery
from analyze.rankings.probe_file import probes_of, probes_of_ids
from analyze.results.sides import Side, sides_of
from analyze.statistics.labelled_examples import has_directions
from analyze.statistics.noise_floor import adjusted
from analyze.statistics.regrouping import provenance
from analyze.statistics.seeds import equal_means
from analyze.statistics.significance import RATE

SHOWN = 24  # examples on the page
EQUAL = 1e-5  # of suspicion: what runs of the same weights differ by in float32
SCORE = "suspicion"


def side_by_side(runs: Sequence[Run]) -> xr.Dataset | None:
    """How each example of the first run with directions pulls in every run that has them.

    Over ``run`` and ``probe``: ``suspicion`` over all checkpoints, its ``rank``, and each run's
    ``in_subset``, ``given_class`` and ``true_class`` of the example, empty where unknown; and
    ``cosine`` with the others at the run's own checkpoints, in the order of training (``order``).
    None with fewer than two such runs, or without a common example.
    """
    found = [(run, _gallery(run)) for run in runs]
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


def _gallery(run: Run) -> Gallery | None:
    """The examples of a run, with the names of classes from its probe file where that is there."""
    if not has_directions(run.tree):
        return None
    probes, _ = probes_of(run.tree)
    return gallery(run.tree, probes, evaluated=False)


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
    """What the template shows of examples: cards of those that differ, what they are, pictures."""
    if "examples" not in comparison.children:
        return {"examples": [], "examples_sentence": "", "examples_missing": ""}
    table = comparison.children["examples"].to_dataset(inherit=False)
    everyone = [str(name) for name in comparison.to_dataset()["run"].values]
    table = table.assign_coords(run=everyone)  # which the group has from its parent
    known = np.isfinite(table[SCORE].transpose("run", "probe").values).any(axis=1)
    table = table.isel(run=np.flatnonzero(known))
    rows, sentence = differing(table, sides_of(comparison))
    origin = provenance(comparison)["runs"][table.attrs["ids_of"]]
    probes, missing = probes_of_ids(table["probe"].values, origin)
    pictures = [None] * len(rows) if probes is None else pictures_of(probes, rows)
    colours = {run: run_look(k).colour for run, k in run_styles(comparison).items()}
    cards = [_card(table.isel(probe=r), p, colours) for r, p in zip(rows, pictures, strict=True)]
    return {
        "examples": cards,
        "examples_sentence": sentence,
        "examples_missing": missing if rows else "",
    }


def differing(table: xr.Dataset, sides: Sequence[Side]) -> tuple[list[int], str]:
    """The rows of the examples that differ most, the largest difference first, and what they are.

    Between configurations: those whose mean suspicion differs significantly over the seeds. Between
    single runs, which say nothing of chance: those that differ by more than rounding.
    """
    runs = [str(name) for name in table["run"].values]
    place = {run: k for k, side in enumerate(sides) for run in side.runs}
    code = np.array([place[run] for run in runs])
    scores = table[SCORE].transpose("run", "probe").values
    means = np.stack([scores[code == k].mean(0) for k in np.unique(code)])
    spread = np.where(np.isfinite(scores).all(0), np.ptp(means, axis=0), np.nan)
    compared = int(np.isfinite(spread).sum())
    if len(means) < 2:
        return [], "All runs with single examples are seeds of one configuration."
    if any(side.is_group for side in sides):
        found = adjusted(equal_means(scores, code)) <= RATE
        among = "between the configurations by more than their seeds do"
    else:
        found, among = spread > EQUAL, "between the runs"
    count = int(found.sum())
    if not count:
        return [], f"No example of {compared:,} differs {among}."
    order = np.argsort(-np.where(found, spread, -1.0), kind="stable")[: min(SHOWN, count)]
    which = f"Those that differ most, {SHOWN} of {count:,}" if count > SHOWN else "All of them"
    sentence = f"{count:,} of {compared:,} examples differ {among}. {which}:"
    if not any(side.is_group for side in sides):
        sentence = (
            f"The {len(order)} of {compared:,} examples that differ most between the runs. What "
            "another seed would change is not known: each configuration has one run."
        )
    return order.tolist(), sentence


def _card(at: xr.Dataset, picture: Picture | None, colours: Mapping[str, str]) -> Card:
    """An example with its standing in every run."""
    standings = []
    courses = at["cosine"].transpose("run", "order").values
    for k, name in enumerate(map(str, at["run"].values)):
        label = str(at["given_class"].values[k]) or str(at["in_subset"].values[k])
        value, rank = rounded(float(at[SCORE].values[k])), float(at["rank"].values[k])
        words = f"{name}: {label}, {value}, rank {rank:,.0f}"
        course = sparkline(np.arange(courses.shape[1]), courses[k], colours[name])
        standings.append((plain(words), course))
    true = next((str(t) for t in at["true_class"].values if t), "")
    pictured = picture if picture and (picture.uri or picture.text) else None
    colour = colours[str(at["run"].values[0])]
    return Card(int(at["probe"]), pictured, colour, plain(true), "", standings)
