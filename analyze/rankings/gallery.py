"""Which examples a page shows: the first by each score, in every subset and every class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.probes import ProbeSet
from analyze.rankings.evaluation import Evaluation, evaluate
from analyze.rankings.labels import Labels, labels_of
from analyze.rankings.reference import Pull, Reference, pull, reference, references
from analyze.rankings.scores import SCORES, over_all, ranks
from analyze.rankings.signals import NETWORK, in_layer
from analyze.statistics.labelled_examples import has_directions
from analyze.statistics.regrouping import example_table

MOST = 60  # pictures on a page
OF_A_SUBSET = 6  # examples of each
# By the score and its name on the page: the first of each ranking.
SHOWN = {"prototype": "Most helpful", "suspicion": "Most opposing", "change": "Most changed"}


@dataclass(frozen=True)
class Group:
    """Examples that stand together: the first of a ranking among some."""

    title: str  # of the ranking
    of: str  # the subset, or the class
    score: str
    rows: list[int]


@dataclass(frozen=True)
class Gallery:
    """Everything that a page says of single examples; the whole network over all checkpoints."""

    compared: Reference
    labels: Labels
    ids: np.ndarray  # [N]
    subsets: np.ndarray  # [N]
    pull: Pull  # [T, N]
    scores: dict[str, np.ndarray]  # by name, [N]
    ranks: dict[str, np.ndarray]  # likewise, from 1; NaN without one
    groups: list[Group]
    evaluation: Evaluation | None


def gallery(
    results: xr.DataTree, probes: ProbeSet | None, *, evaluated: bool = True
) -> Gallery | None:
    """The examples of a page; None where the run has nothing that they could be compared with."""
    if not has_directions(results):
        return None
    labels = labels_of(results, probes)
    possible = references(results, labels)
    if not possible:
        return None
    compared = reference(results, possible[0])
    table = example_table(results)
    found = pull(in_layer(results, NETWORK), compared)
    scores = {name: over_all(score.of(found)) for name, score in SCORES.items()}
    subsets = table["subset"].values.astype(str)
    orders = {name: np.argsort(-np.nan_to_num(v, nan=-np.inf), kind="stable")
              for name, v in scores.items()}  # fmt: skip
    return Gallery(
        compared, labels, table["probe"].values, subsets, found, scores,
        {name: ranks(v) for name, v in scores.items()},
        list(_groups(orders, scores, subsets, labels.given)),
        evaluate(results, labels) if evaluated else None,
    )  # fmt: skip


def _groups(
    orders: dict[str, np.ndarray],
    scores: dict[str, np.ndarray],
    subsets: np.ndarray,
    given: np.ndarray | None,
) -> Iterator[Group]:
    """The first of each ranking by subset, then one of each class, up to ``MOST`` examples."""
    seen: set[int] = set()
    names = list(dict.fromkeys(subsets.tolist()))
    each = max(1, min(OF_A_SUBSET, MOST // (len(SHOWN) * len(names)) - 1))
    for score, title in SHOWN.items():
        for name in names:
            order = orders[score][subsets[orders[score]] == name]
            rows = _first(order, scores[score], each, seen)
            if rows:
                yield Group(title, name, score, rows)
    classes = [] if given is None else sorted(set(given.tolist()), key=_natural)
    for score, title in list(SHOWN.items())[:2]:
        rows = []
        for name in classes:
            order = orders[score][given[orders[score]] == name]  # type: ignore[index]
            rows += _first(order, scores[score], 1, seen)
        if rows:
            yield Group(title, "each class", score, rows)


def _first(order: np.ndarray, score: np.ndarray, count: int, seen: set[int]) -> list[int]:
    """The first rows that have a score, as far as the page has room for new ones."""
    rows = []
    for row in order[:count].tolist():
        if np.isfinite(score[row]) and (row in seen or len(seen) < MOST):
            seen.add(row)
            rows.append(row)
    return rows


def _natural(name: str) -> tuple[float, str]:
    """Numbers by size, names by alphabet."""
    return (float(name), "") if name.isdecimal() else (np.inf, name)
