"""The outcome of a checkpoint: one record, from the process that measures it to the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import NAN, NUMBERS, Checkpoint
from analyze.checkpoints.damage import as_text
from analyze.errors import CheckpointError
from analyze.runs.units.unit import Unit

TEXTS = ("format", "step_rule", "weights", "weights_key")


@dataclass(frozen=True)
class Outcome:
    """A checkpoint with its unit, or with the problem for which there is none."""

    checkpoint: Checkpoint
    unit: Unit | None = None
    problem: CheckpointError | None = None
    is_new: bool = False  # measured now, not by an earlier run
    notes: tuple[str, ...] = ()  # of the engine while it measured

    @property
    def reason(self) -> str:
        """Why there is no unit, with paths relative to the run; empty where there is one.

        It travels with the results, and where the run lay on one machine says nothing on another.
        """
        if self.problem is None:
            return ""
        path, name = self.checkpoint.path, self.checkpoint.name
        reason = f"{self.problem.what}: {self.problem.found}"
        for place in (as_text(path.absolute()), as_text(path)):  # absolute in another process
            if (root := place.removesuffix(name)) not in ("", place):
                reason = reason.replace(root, "")
        return reason

    def record(self) -> dict[str, Any]:
        """How the checkpoint was found and read, for the provenance of the results."""
        unit = {} if self.unit is None else self.unit.record
        read = {key: unit.get(key) for key in ("prefix", "sha256", "version", "device") if unit}
        divided = {"ranks": unit["ranks"]} if "ranks" in unit else {}
        return record_of(self.checkpoint) | read | divided


def record_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Name, format and position of a checkpoint for JSON; unknown numbers are None."""
    numbers = {key: getattr(checkpoint, key) for key in NUMBERS}
    return {
        "checkpoint": checkpoint.name,
        "prefix": "",
        **{key: getattr(checkpoint, key) for key in TEXTS},
        **{key: None if math.isnan(number) else number for key, number in numbers.items()},
    }


def checkpoint_of(record: Mapping[str, Any], root: Path) -> Checkpoint:
    """A deleted checkpoint, from the record of its unit."""
    facts = {key: record[key] for key in (*TEXTS, "prefix")}
    numbers = {key: record.get(key) for key in NUMBERS}  # older versions wrote fewer
    facts |= {key: NAN if value is None else float(value) for key, value in numbers.items()}
    return Checkpoint(record["checkpoint"], root / record["checkpoint"], tensors=0, **facts)
