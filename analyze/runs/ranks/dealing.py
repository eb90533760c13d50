"""How the checkpoints of a run are dealt out to ranks: whole ones, and those that all divide."""

from __future__ import annotations

from dataclasses import dataclass

from analyze.errors import counted
from analyze.gradients.engine import Engine

ALONE = 0.05  # of a checkpoint's work: what the leading rank verifies while the others wait


@dataclass(frozen=True)
class Dealing:
    """How some checkpoints are measured by ranks.

    Args:
        ranks: How many there are.
        whole: Checkpoints that one rank each measures.
        divided: Checkpoints, after those, whose batches are divided among all ranks.
        working: How many ranks have a batch of a divided one.
    """

    ranks: int
    whole: int
    divided: int
    working: int

    @property
    def turns(self) -> float:
        """The time that all take, as a multiple of what one checkpoint takes on one rank."""
        return -(-self.whole // self.ranks) + self.divided * _of_divided(self.working)

    def __str__(self) -> str:
        """What is done, and why."""
        parts = []
        if self.whole:
            turns = counted(-(-self.whole // self.ranks), "turn")
            parts.append(f"{counted(self.whole, 'checkpoint')} whole, one a rank, in {turns}")
        if self.divided:
            why = f"as {counted(self.divided, 'checkpoint')} cannot occupy {self.ranks} ranks"
            parts.append(
                f"{counted(self.divided, 'checkpoint')} divided among {self.working} ranks, {why}"
            )
        return "; ".join(parts) or "nothing is left to measure"


def dealt(checkpoints: int, ranks: int, batches: int) -> Dealing:
    """How so many checkpoints of so many batches are dealt out to ranks.

    Whole ones as long as each rank gets one; fewer than there are ranks are divided, one after the
    other, unless that takes longer. No batch is cut: the bits of its numbers would be others.
    """
    working = min(ranks, batches)
    left = checkpoints % ranks
    divided = left if left * _of_divided(working) < 1 else 0
    return Dealing(ranks, checkpoints - divided, divided, working)


def dealing_of(engine: Engine, checkpoints: int, ranks: int) -> Dealing:
    """How so many checkpoints are dealt out to ranks, by an engine with a plan.

    Along directions one rank alone measures: their vectors are sums over all cells.
    """
    batches = -(-len(engine.probes) // engine.batch_size)
    return dealt(checkpoints, ranks, 1 if engine.settings.directions else batches)


def _of_divided(working: int) -> float:
    """The time of a divided checkpoint, as a share of its time on one rank."""
    return 1.0 if working == 1 else 1 / working + ALONE
