"""What is in a run's directory: the decision for every file, without a model."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from analyze.checkpoints.checkpoint import Checkpoint, LeftOut
from analyze.checkpoints.finding.discovery import find, recent
from analyze.checkpoints.finding.one_run import several_runs
from analyze.checkpoints.finding.series import remarks
from analyze.checkpoints.layouts.foreign import BY_ENDING
from analyze.checkpoints.options import ReadingOptions
from analyze.errors import RefusedError, counted, listed
from analyze.specs.run_card import NAME, RunCard, read_run_card

COLUMNS = ("step_rule", "format", "weights", "weights_key", "prefix", "tensors")


@dataclass(frozen=True)
class Scan:
    """The checkpoints of a run in order, what else is there, and what its card says."""

    card: RunCard
    checkpoints: list[Checkpoint]
    left_out: list[LeftOut]
    warnings: list[str]

    def as_rows(self) -> list[dict[str, object]]:
        """One dictionary for each checkpoint, as ``analyze scan --json`` prints them."""
        return [
            {
                "checkpoint": c.name,
                "step": _known(c.step),
                "epoch": _known(c.epoch),
                "epochs_completed": _known(c.epochs_completed),
                "tokens": _known(c.tokens),
                **{name: getattr(c, name) for name in COLUMNS},
                "problem": None if c.problem is None else f"{c.problem.what}: {c.problem.found}",
            }
            for c in self.checkpoints
        ]

    def as_headline(self) -> str:
        """How many checkpoints there are, and how many that cannot be read."""
        bad = sum(c.problem is not None for c in self.checkpoints)
        good = counted(len(self.checkpoints) - bad, "checkpoint")
        return f"{good}, and {bad} that cannot be read" if bad else good

    def as_reasons(self) -> list[tuple[str, str]]:
        """Why the rest is left out; files of other kinds are counted, the run card is not said."""
        named = [(file.name, file.why) for file in self.left_out if file.why != BY_ENDING]
        kinds = Counter(
            Path(file.name).suffix or "without ending"
            for file in self.left_out
            if file.why == BY_ENDING and file.name != NAME
        )
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6))
        return [*named, (counts, BY_ENDING)] if kinds else named


def scan(run: str | Path, reading: ReadingOptions | None = None) -> Scan:
    """Find and order the checkpoints of a run.

    Args:
        run: A directory, or one checkpoint file.
        reading: How to find and read them.

    Raises:
        InputError: no such directory, no checkpoint in it, or a broken run card or manifest.

    Cost: every candidate is opened; tensors are read only to compare copies.
    """
    run = Path(run)
    folder = run if run.is_dir() else run.parent
    card = read_run_card(folder)
    exclude = [] if card.probes is None else [folder / card.probes]
    reading = reading or ReadingOptions()
    discovery = find(run, exclude, reading)
    warnings = remarks(discovery.checkpoints)
    mixed = several_runs(discovery.checkpoints)
    if mixed is not None and reading.manifest is None:
        warnings.append(f"{mixed.what}: {mixed.found}; {mixed.fix}")
    late = [
        c.name for c in discovery.checkpoints
        if c.problem is not None and not isinstance(c.problem, RefusedError) and recent(c)
    ]  # fmt: skip
    if late:
        warnings.append(
            f"{listed(late, 3)} cannot be read and was changed within a minute of "
            f"{time.strftime('%H:%M:%S')}: perhaps it is still being written"
        )
    return Scan(card, discovery.checkpoints, discovery.left_out, warnings)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
