"""The four scores by which examples are ranked, each ``[T, N]`` over checkpoints and examples.

Over all checkpoints a score is its mean over those where it has a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analyze.rankings.reference import Pull


@dataclass(frozen=True)
class Score:
    """A score of single examples: what it means, and its function of their pull."""

    name: str
    meaning: str  # for help, tables and pages
    of: Callable[[Pull], np.ndarray]
    wrong_is_high: bool = True  # else its opposite is what may tell wrong labels


def change(pull: Pull) -> np.ndarray:
    """By how much the cosine with the others moved since the measured checkpoint before.

    NaN at the first.
    """
    moved = np.full(pull.cosine.shape, np.nan)
    measured = np.flatnonzero(np.isfinite(pull.cosine).any(1))
    moved[measured[1:]] = np.abs(np.diff(pull.cosine[measured], axis=0))
    return moved


SCORES = {
    score.name: score
    for score in (
        Score("suspicion", "cosine between the example's gradient and the sum of the others', "
              "with its sign turned: -1 agrees, 1 opposes", lambda p: -p.cosine),
        Score("prototype", "product of the example's gradient with the sum of the others': the "
              "first-order drop of their loss by a step along it", lambda p: p.others,
              wrong_is_high=False),
        Score("influence", "size of that product, whether it helps or harms",
              lambda p: np.abs(p.others)),
        Score("change", "by how much the cosine with the others moves from one measured checkpoint "
              "to the next", change),
    )
}  # fmt: skip


def over_all(values: np.ndarray) -> np.ndarray:
    """The mean over the checkpoints that have a value, ``[T, N]`` to ``[N]``; NaN without any."""
    known = np.isfinite(values)
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ranks(score: np.ndarray) -> np.ndarray:
    """Ranks from 1 for the highest, equal for equal scores; NaN, without a rank, stays NaN."""
    known = np.isfinite(score)
    rising = np.sort(-score[known])
    result = np.full(len(score), np.nan)
    result[known] = np.searchsorted(rising, -score[known], side="left") + 1
    return result
