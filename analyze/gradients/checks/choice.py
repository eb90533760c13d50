"""A few probes by which a model is found out: some at random places, some that stand out.

What a model does with a short sequence, an unpadded one or an outlier shows only where there is
one: probes with extreme inputs are among those that a plan is made and proven on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

import numpy as np

LOOKED_AT = 1024  # probes among which extremes are looked for
LOOKED_AT_BYTES = 64 << 20


def telling(standing_out: Sequence[int], total: int, count: int) -> np.ndarray:
    """Rows of ``count`` probes, or of all where there are fewer; extremes and others in turn.

    Args:
        standing_out: Rows of those that do, as ``extremes`` gives them.
        total: How many probes there are.
        count: How many are wanted.
    """
    others = np.linspace(0, total - 1, count).astype(np.int64).tolist()
    pairs = zip_longest(standing_out, others)
    mixed = dict.fromkeys(row for row in chain(*pairs) if row is not None)
    left = dict.fromkeys(range(min(total, 3 * count)))
    return np.array([*{**mixed, **left}][: min(count, total)], dtype=np.int64)


def extremes(inputs: Mapping[str, np.ndarray]) -> list[int]:
    """Rows of the probes with the least and largest mean and the largest entry, of each input.

    Args:
        inputs: ``[N, ...]`` by name.

    Cost: a look at the inputs of at most 1,024 probes.
    """
    total = len(next(iter(inputs.values())))
    size = sum(values[:1].nbytes for values in inputs.values())
    among = min(total, LOOKED_AT, max(2, LOOKED_AT_BYTES // max(1, size)))
    rows = np.linspace(0, total - 1, among).astype(np.int64)
    flat = [np.abs(values[rows]).reshape(among, -1) for values in inputs.values() if values.size]
    means = [np.nan_to_num(values.mean(1, dtype=np.float64)) for values in flat]
    peaks = [np.nan_to_num(values.max(1).astype(np.float64)) for values in flat]
    least = [values.argmin() for values in means]
    largest = [values.argmax() for values in (*peaks, *means)]
    return [int(rows[k]) for k in (*least, *largest)]
