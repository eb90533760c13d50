"""What probes are grouped by: subsets whose names have a meaning, and further columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ALL = "all"  # the union of the subsets that are not held out
HELD_OUT = "held_out"  # the subset that is held out by default
DEFAULT_SUBSET = "probes"  # the only subset of probes without subsets


@dataclass(frozen=True)
class Column:
    """A further label of each probe, such as its class; ``codes`` ``[N]`` index ``names``."""

    codes: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Any) -> Column:
        """The column of one label for each probe, words or numbers; names are sorted as words."""
        words = np.atleast_1d(np.asarray(labels)).astype(str)
        names, codes = np.unique(words, return_inverse=True)
        return cls(codes.astype(np.int64), tuple(names.tolist()))
