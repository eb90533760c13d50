"""What is in a run's directory: the decision for each checkpoint, without a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from analyze.checkpoints.discovery import Checkpoint, find_checkpoints
from analyze.run_card import RunCard, read_run_card


@dataclass(frozen=True)
class Scan:
    """The checkpoints of a run in order, and what its card says."""

    card: RunCard
    checkpoints: list[Checkpoint]

    def as_rows(self) -> list[dict[str, object]]:
        """One dictionary for each checkpoint, as ``analyze scan --json`` prints them."""
        return [
            {
                "checkpoint": c.name,
                "step": None if math.isnan(c.step) else c.step,
                "epoch": None if math.isnan(c.epoch) else c.epoch,
                "step_rule": c.step_rule,
                "format": c.format,
                "weights_key": c.weights_key,
                "prefix": c.prefix,
                "tensors": c.tensors,
                "problem": None if c.problem is None else f"{c.problem.what}: {c.problem.found}",
            }
            for c in self.checkpoints
        ]


def scan(run: str | Path) -> Scan:
    """Find and order the checkpoints of a run; files are opened, tensors are not read.

    Raises:
        InputError: no such directory, no checkpoint in it, or a broken run card.
    """
    run = Path(run)
    folder = run if run.is_dir() else run.parent
    card = read_run_card(folder)
    exclude = [] if card.probes is None else [folder / card.probes]
    return Scan(card, find_checkpoints(run, exclude))
