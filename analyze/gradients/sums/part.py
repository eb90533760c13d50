"""What some of a model's batches gave: the part of one rank, to be joined with the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analyze.gradients.sums.observation import Observation


@dataclass(frozen=True)
class Part:
    """All that the batches of one rank gave besides the sums. n examples, P parameters, C cells."""

    rows: np.ndarray  # [n], the examples' rows of the probe set
    loss: np.ndarray  # [n]
    accuracy: np.ndarray  # [n]
    examples: np.ndarray | None  # [P, n], squared norms of the examples, where they are kept
    squared_norms: np.ndarray  # [P, C], summed over its examples
    bad: np.ndarray  # [P, C], how many of them are not finite
    seen: Observation  # what its watched probes showed
    held: range  # cells that it has sums of
    values: Mapping[str, int]  # of each parameter that any of its examples has a gradient of
    drew: bool  # whether random numbers were drawn
