"""What each signal is worth where it is known which labels are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from analyze.rankings.labels import Labels
from analyze.rankings.reference import reference, references
from analyze.rankings.signals import (
    ALIGNMENT,
    NETWORK,
    OF_OUTPUT,
    OVER_ALL,
    TODAY,
    Candidate,
    candidates,
    layer_names,
)
from analyze.statistics import detection

FEWEST = 5  # wrong, and right, labels from which anything is said
DRAWS = 500
MOST_PAIRS = 4_000_000  # of candidates, beyond which single layers are left out of the comparison
MOST_NUMBERS = 60_000_000  # scores of all candidates that are held, 480 MB


@dataclass(frozen=True)
class Evaluation:
    """Signals with their areas, and sentences on the best of them."""

    candidates: list[Candidate]
    areas: detection.Areas
    wrong: np.ndarray  # [n], of the examples that are judged
    judged: np.ndarray  # their rows
    sentences: list[str]

    def rows(self, every: bool) -> list[dict[str, object]]:
        """Each signal's best place and its value over all checkpoints; or every candidate."""
        lower, upper = self.areas.interval
        chosen = range(len(self.candidates)) if every else self._shown()
        return [self._row(k, float(lower[k]), float(upper[k])) for k in chosen]

    @cached_property
    def _weights(self) -> np.ndarray:
        """The bootstrap samples that all average precisions share."""
        return detection.drawn_again(self.wrong, draws=DRAWS)

    def _shown(self) -> list[int]:
        """The numbers of each signal's best candidate, and of its best over all checkpoints."""
        best: dict[tuple[str, bool], int] = {}
        for k, c in enumerate(self.candidates):
            for key in {(c.signal, False), (c.signal, c.checkpoint == OVER_ALL)}:
                if key not in best or self.areas.value[k] > self.areas.value[best[key]]:
                    best[key] = k
        shown = list(dict.fromkeys(best.values()))
        return sorted(shown, key=lambda k: -self.areas.value[k])

    def _row(self, k: int, lower: float, upper: float) -> dict[str, object]:
        one, precise = self.candidates[k], self.candidates[k].score[self.judged]
        ends = detection.average_precision_interval(precise, self.wrong, self._weights)
        return {
            "signal": one.signal,
            "family": one.family,
            "layer": one.layer,
            "checkpoint": one.checkpoint,
            "auroc": float(self.areas.value[k]),
            "auroc_lower": None if np.isnan(lower) else lower,
            "auroc_upper": None if np.isnan(upper) else upper,
            "average_precision": detection.average_precision(precise, self.wrong),
            "average_precision_lower": ends[0],
            "average_precision_upper": ends[1],
        }


def evaluate(results: xr.DataTree, labels: Labels) -> Evaluation | None:
    """Every signal's area and average precision; None where too little is known of the labels.

    The signals compare an example with what does not tell the answer, whatever the ranking is by.
    """
    rows = labels.judged
    wrong = np.zeros(0, bool) if labels.wrong is None else labels.wrong[rows] == 1.0
    if min(wrong.sum(), (~wrong).sum()) < FEWEST:
        return None
    compared = [reference(results, name) for name in references(results, labels)]
    layers = layer_names(results)
    checkpoints = results.sizes["checkpoint"] + 1
    if checkpoints * len(layers) * (len(compared) + 5) * len(rows) > MOST_NUMBERS:
        layers = [NETWORK]
    found = list(candidates(results, labels, compared, layers))
    areas = detection.areas(np.stack([c.score[rows] for c in found]), wrong)
    sentences = [_counts(labels, wrong), *_best(found, areas, layers)]
    return Evaluation(found, areas, wrong, rows, sentences)


def worth(score: np.ndarray, wrong_is_high: bool, labels: Labels) -> tuple[str, bool]:
    """What a ranking by this score finds, and whether it is the wrong way around.

    It is judged by those examples of known label that have a score; empty where there are few.
    """
    rows = labels.judged[np.isfinite(score[labels.judged])]
    wrong = np.zeros(0, bool) if labels.wrong is None else labels.wrong[rows] == 1.0
    if min(wrong.sum(), (~wrong).sum()) < FEWEST:
        return "", False
    area = detection.areas(score[np.newaxis, rows], wrong)
    value, (lower, upper) = float(area.value[0]), (float(end[0]) for end in area.interval)
    is_last, is_first = value == 0.0 or upper < 0.5, value == 1.0 or lower > 0.5
    turned = is_last if wrong_is_high else is_first
    order = "last, not first" if wrong_is_high else "first, not last"
    which = f": it puts the wrong labels {order}" if turned else ""
    return f"This ranking finds wrong labels with an AUROC of {_value(area, 0)}{which}.", turned


def _counts(labels: Labels, wrong: np.ndarray) -> str:
    share = wrong.mean()
    return (
        f"{wrong.sum()} of {len(wrong)} labels are wrong, by {labels.known_by}; by chance the "
        f"AUROC is 0.5 and the average precision {share:.2g}."
    )


def _best(found: list[Candidate], areas: detection.Areas, layers: list[str]) -> list[str]:
    """Which signal, layer and checkpoint did best, and whether that is more than chance."""
    families = {
        name: np.array([k for k, c in enumerate(found) if c.family == name])
        for name in (ALIGNMENT, TODAY)
    }
    if not len(families[ALIGNMENT]):
        return []
    if np.prod([len(k) for k in families.values()]) > MOST_PAIRS:
        whole = [k for k, c in enumerate(found) if c.layer in (NETWORK, OF_OUTPUT)]
        families = {name: np.intersect1d(k, whole) for name, k in families.items()}
    few = len(layers) > 1 and len(np.concatenate(list(families.values()))) < len(found)
    parts = [_part(areas, k) for k in families.values()]
    gap = detection.best_against(parts[0], parts[1], draws=DRAWS)
    ours, today = (
        int(k[n]) for k, n in zip(families.values(), (gap.first, gap.second), strict=True)
    )
    said = [f"{found[k].signal} {_place(found[k])}: {_value(areas, k)}" for k in (ours, today)]
    sure = "more than chance" if gap.lower > 0 or gap.upper < 0 else "no more than chance"
    which = ", of the whole network" if few else ""
    return [
        f"Highest AUROC of the signals from alignments{which}: {said[0]}.",
        f"Highest AUROC of what is used today{which}: {said[1]}.",
        f"Their difference, {gap.value:+.3f}, is {sure}: {gap.lower:+.3f} to {gap.upper:+.3f} with "
        f"95 % confidence for all {gap.pairs:,} pairs that were tried (p = {gap.p_value:.2g}). The "
        "highest of many is on average too high: on another run it is lower.",
    ]


def _value(areas: detection.Areas, k: int) -> str:
    """``0.912 (95 %: 0.890 to 0.931)``; an area of 1 has no interval."""
    lower, upper = (end[k] for end in areas.interval)
    ends = "" if np.isnan(lower) else f" (95 %: {lower:.3f} to {upper:.3f})"
    return f"{areas.value[k]:.3f}{ends}"


def _part(areas: detection.Areas, rows: np.ndarray) -> detection.Areas:
    return detection.Areas(areas.value[rows], areas.wrong[rows], areas.right[rows])


def _place(one: Candidate) -> str:
    where = "" if one.layer in (NETWORK, OF_OUTPUT) else f"in {one.layer} "
    return where + (
        "over all checkpoints" if one.checkpoint == OVER_ALL else f"at {one.checkpoint}"
    )
