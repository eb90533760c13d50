"""A few probes by which a model is found out: some at random places, some that stand out.

What a model does with a short sequence, an unpadded one or an outlier shows only where there is
one: probes with extreme inputs are among those that a plan is made and proven on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest

import numpy as np

LOOKED_AT = 1024  # probes among which extremes are looked for
LOOKED_AT_BYTES = 64 << 20


def telling(inputs: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Rows of ``count`` probes, or of all where there are fewer; extremes and others in turn.

    Args:
        inputs: ``[N, ...]`` by name.
        count: How many.

    Cost: a look at the inputs of at most 1,024 probes.
    """
    total = len(next(iter(inputs.values())))
    others = np.linspace(0, total - 1, count).astype(np.int64).tolist()
    pairs = zip_longest(_extremes(inputs, total), others)
    mixed = dict.fromkeys(row for row in chain(*pairs) if row is not None)
    left = dict.fromkeys(range(min(total, 3 * count)))
    return np.array([*{**mixed, **left}][: min(count, total)], dtype=np.int64)


def _extremes(inputs: Mapping[str, np.ndarray], total: int) -> Iterator[int]:
    """The probes with the least and the largest mean, then the largest entry, of each input."""
    size = sum(values[:1].nbytes for values in inputs.values())
    among = min(total, LOOKED_AT, max(2, LOOKED_AT_BYTES // max(1, size)))
    rows = np.linspace(0, total - 1, among).astype(np.int64)
    flat = [np.abs(values[rows]).reshape(among, -1) for values in inputs.values() if values.size]
    means = [np.nan_to_num(values.mean(1, dtype=np.float64)) for values in flat]
    peaks = [np.nan_to_num(values.max(1).astype(np.float64)) for values in flat]
    for values in means:
        yield int(rows[values.argmin()])
    for values in (*peaks, *means):
        yield int(rows[values.argmax()])
