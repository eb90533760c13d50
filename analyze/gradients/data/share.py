"""The share of a rank: which of the things in a row it works on, when several ranks divide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Share:
    """The share of one of several ranks; by default all of it."""

    rank: int = 0
    ranks: int = 1

    def of(self, things: Sequence[Thing], sizes: Sequence[int]) -> list[Thing]:
        """Neighbours among some things; those of all ranks in their order are all of them.

        A thing is the rank's in whose part of the total size its middle lies, so that all ranks
        have about the same. With fewer things than ranks some have none.
        """
        ends = np.cumsum(sizes, dtype=np.int64)
        middles = 2 * ends - np.asarray(sizes, dtype=np.int64)  # doubled, so that they are integers
        ranks = middles * self.ranks // max(1, 2 * int(ends[-1]) if len(ends) else 1)
        return [thing for thing, rank in zip(things, ranks.tolist(), strict=True)
                if rank == self.rank]  # fmt: skip


WHOLE = Share()
