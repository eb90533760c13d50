"""What probes are grouped by: the names of subsets that mean something, and further columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALL = "all"  # the union of the subsets that are not held out
HELD_OUT = "held_out"  # held out unless said otherwise
DEFAULT_SUBSET = "probes"  # where none are named


@dataclass(frozen=True)
class Column:
    """A further label of each probe: class, source; ``codes`` ``[N]`` index ``names``."""

    codes: np.ndarray
    names: tuple[str, ...]
