"""The section "Examples" of the report: pictures, their course over training, a map, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyze.figures.looks import Look, subset_looks
from analyze.figures.names import plain
from analyze.figures.training import training
from analyze.pages.cards import Card
from analyze.pages.embedding import packed, packed_steps
from analyze.pages.pictures import Picture, pictures_of
from analyze.pages.sparkline import sparkline
from analyze.pages.text import rounded
from analyze.probes import ProbeSet
from analyze.probes.subsets import ALL
from analyze.rankings.columns import Help, column_help
from analyze.rankings.gallery import Gallery, Group, gallery
from analyze.rankings.reference import Reference
from analyze.rankings.scores import SCORES
from analyze.reports.details import NETWORK

SIGNAL_COLUMNS = ("signal", "layer", "checkpoint", "AUROC", "95 %", "average precision", "95 %")
MOST_CELLS = 1_000_000  # of the map, beyond which the examples of the highest ranks are on it


@dataclass(frozen=True)
class Cards:
    """Examples under one head."""

    of: str
    cards: list[Card]


@dataclass(frozen=True)
class Examples:
    """What the template shows."""

    others: str  # what they are compared with, in words
    meanings: dict[str, str]
    missing: str  # why there are no pictures
    groups: dict[str, list[Cards]]  # by the title of the ranking
    rankings: list[str]  # the scores that the map sorts by
    subsets: list[str]
    on_map: int
    count: int
    signals: list[list[object]]
    sentences: list[str]
    help: Help | None
    signal_columns: tuple[str, ...] = SIGNAL_COLUMNS


def section(
    results: xr.DataTree, probes: ProbeSet | None, missing: str, x: str | None
) -> tuple[Examples | None, dict[str, Any] | None]:
    """What the template shows, and the data of its script; None for runs without directions."""
    found, help_ = gallery(results, probes), column_help(results)
    if found is None and help_ is None:
        return None, None
    data: dict[str, Any] = {}
    if help_ is not None:
        data["help"] = {
            "column": plain(help_.column),
            "labels": [plain(label) for label in help_.labels],
            "rows": [NETWORK, *map(plain, help_.layers)],
            "values": packed_steps(help_.values),
        }
    if found is None:
        return Examples("", {}, "", {}, [], [], 0, 0, [], [], help_), data
    rows = _on_map(found)
    data["map"] = _map(found, rows)
    shown = list(dict.fromkeys(row for group in found.groups for row in group.rows))
    pictures = {} if probes is None else dict(zip(shown, pictures_of(probes, shown), strict=True))
    if pictures and not any(p.uri or p.text for p in pictures.values()):
        missing = "The inputs are neither images nor text: examples are shown by their ids."
    looks = subset_looks(results.to_dataset()["subset"].values)
    places = training(results, x).values
    groups: dict[str, list[Cards]] = {}
    for group in found.groups:
        cards = [_card(found, group, row, pictures, looks, places) for row in group.rows]
        groups.setdefault(group.title, []).append(Cards(plain(group.of), cards))
    evaluated = found.evaluation
    examples = Examples(
        _others(found.compared), {name: score.meaning for name, score in SCORES.items()},
        missing, groups, list(SCORES), [plain(n) for n in dict.fromkeys(found.subsets.tolist())],
        len(rows), len(found.ids), [] if evaluated is None else _signals(evaluated.rows(False)),
        [] if evaluated is None else evaluated.sentences, help_,
    )  # fmt: skip
    return examples, data


def _card(
    found: Gallery,
    group: Group,
    row: int,
    pictures: Mapping[int, Picture],
    looks: Mapping[str, Look],
    places: np.ndarray,
) -> Card:
    given = "" if found.labels.given is None else plain(str(found.labels.given[row]))
    classes = found.labels.other_class
    true = "" if classes is None else plain(str(classes[row]))
    subset = str(found.subsets[row])
    picture = pictures.get(row)
    rank = int(found.ranks[group.score][row])
    standing = f"{rounded(float(found.scores[group.score][row]))} · rank {rank:,}"
    course = sparkline(places, found.pull.cosine[:, row], looks[subset].colour)
    pictured = picture if picture and (picture.uri or picture.text) else None
    return Card(
        int(found.ids[row]), pictured, looks[subset].colour, given, "" if true == given else true,
        [(standing, course)],
    )  # fmt: skip


def _others(compared: Reference) -> str:
    """``the other training examples``, ``the rest of their class``."""
    if compared.own is not None:
        return f"the rest of their {plain(compared.name)}"
    if compared.name == ALL:
        return "the other training examples"
    return f"the other examples of {plain(compared.name)}"


def _on_map(found: Gallery) -> np.ndarray:
    """The rows of the map: all, or as many as there is room for with the highest suspicion."""
    checkpoints, count = found.pull.cosine.shape
    room = max(1, MOST_CELLS // checkpoints)
    if count <= room:
        return np.arange(count)
    order = np.argsort(-np.nan_to_num(found.scores["suspicion"], nan=-np.inf), kind="stable")
    return np.sort(order[:room])


def _map(found: Gallery, rows: np.ndarray) -> dict[str, Any]:
    """The cosine of examples with the others at each checkpoint, with labels and scores."""
    subsets = list(dict.fromkeys(found.subsets.tolist()))
    given, true = found.labels.given, found.labels.other_class
    return {
        "ids": found.ids[rows].tolist(),
        "subset": [subsets.index(name) for name in found.subsets[rows].tolist()],
        "given": None if given is None else [plain(str(name)) for name in given[rows]],
        "true": None if true is None else [plain(str(name)) for name in true[rows]],
        "scores": {name: packed(values[rows]) for name, values in found.scores.items()},
        "ranks": {name: packed(values[rows]) for name, values in found.ranks.items()},
        "cosine": packed_steps(found.pull.cosine.T[rows]),
    }


def _signals(rows: list[dict[str, object]]) -> list[list[object]]:
    def ends(row: Mapping[str, Any], name: str) -> str:
        lower, upper = row[f"{name}_lower"], row[f"{name}_upper"]
        return "\N{EN DASH}" if lower is None else f"{lower:.3f} to {upper:.3f}"

    return [
        [plain(str(row["signal"])), plain(str(row["layer"])), plain(str(row["checkpoint"])),
         row["auroc"], ends(row, "auroc"), row["average_precision"], ends(row, "average_precision")]
        for row in rows
    ]  # fmt: skip
