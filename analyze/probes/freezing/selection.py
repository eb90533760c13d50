"""Which examples are taken: as many of each subset, at random from a seed, balanced or not."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


def choose(
    subset: Sequence[str],
    classes: np.ndarray | None,
    per_subset: int | None,
    *,
    seed: int,
    balance: bool,
) -> np.ndarray:
    """Rows in their order: ``per_subset`` of each subset, or all of it where it has fewer.

    The draw in one subset does not depend on what other subsets there are.

    Args:
        subset: The subset of each example.
        classes: ``[N]``, the class of each.
        per_subset: None for all.
        seed: Of the draw.
        balance: As many of each class within a subset, as far as there are.
    """
    names, chosen = np.asarray(subset), []
    for name in dict.fromkeys(subset):
        rows = np.flatnonzero(names == name)
        draw = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8"))])
        rows = draw.permutation(rows)
        if balance and classes is not None:
            rows = _dealt(rows, classes)
        chosen.append(rows[:per_subset])
    return np.sort(np.concatenate(chosen)) if chosen else np.array([], np.int64)


def _dealt(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The first of every class, then the second of every class, and so on."""
    turn = np.zeros(len(rows), np.int64)
    for value in np.unique(classes[rows]):
        members = np.flatnonzero(classes[rows] == value)
        turn[members] = np.arange(len(members))
    return rows[np.argsort(turn, kind="stable")]
