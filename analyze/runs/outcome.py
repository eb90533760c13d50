"""What becomes of a checkpoint: one record, from the process that measures it to the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.errors import CheckpointError
from analyze.runs.units.unit import Unit

NUMBERS = ("step", "epoch", "epochs_completed", "tokens")
TEXTS = ("format", "step_rule", "weights", "weights_key")


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

    def record(self) -> dict[str, Any]:
        """How the checkpoint was found and read, for the provenance of the results."""
        unit = {} if self.unit is None else self.unit.record
        read = {key: unit.get(key) for key in ("prefix", "sha256", "version") if unit}
        return record_of(self.checkpoint) | read


def record_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """How a checkpoint was found; None where a number is not known."""
    numbers = {key: getattr(checkpoint, key) for key in NUMBERS}
    return {
        "checkpoint": checkpoint.name,
        "prefix": "",
        **{key: getattr(checkpoint, key) for key in TEXTS},
        **{key: None if math.isnan(number) else number for key, number in numbers.items()},
    }


def checkpoint_of(record: Mapping[str, Any], root: Path) -> Checkpoint:
    """A checkpoint that is deleted by now, as its unit remembers it."""
    facts = {key: record[key] for key in (*TEXTS, "prefix")}
    facts |= {key: NAN if record[key] is None else float(record[key]) for key in NUMBERS}
    return Checkpoint(record["checkpoint"], root / record["checkpoint"], tensors=0, **facts)
