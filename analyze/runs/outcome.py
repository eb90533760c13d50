"""What becomes of a checkpoint: one record, from the process that measures it to the results."""

from __future__ import annotations

from dataclasses import dataclass

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.runs.units.unit import Unit


@dataclass(frozen=True)
class Outcome:
    """What became of a checkpoint: its unit, or the reason why there is none.

    Args:
        checkpoint: The checkpoint.
        unit: Its measurement; None where there is a problem.
        problem: Why it could not be measured.
        is_new: Whether it was measured now, and not by an earlier run.
        notes: What the engine noted while it was measured.
    """

    checkpoint: Checkpoint
    unit: Unit | None = None
    problem: CheckpointError | None = None
    is_new: bool = False
    notes: tuple[str, ...] = ()
