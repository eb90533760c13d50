"""Scan a run's directory: the decision for every file, without a model."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from analyze.checkpoints.checkpoint import NUMBERS, Checkpoint, LeftOut
from analyze.checkpoints.finding.discovery import find, recent
from analyze.checkpoints.finding.one_run import several_runs
from analyze.checkpoints.finding.series import remarks
from analyze.checkpoints.layouts.foreign import BY_ENDING
from analyze.checkpoints.options import FindingKeywords, ReadingOptions
from analyze.errors import RefusedError, counted, listed
from analyze.files.present import is_folder
from analyze.keywords import built, taking
from analyze.specs.run_card import NAME, RunCard, read_run_card

COLUMNS = ("step_rule", "format", "weights", "weights_key", "prefix", "tensors")


@dataclass(frozen=True)
class Scan:
    """The checkpoints of a run in order, other files, warnings, and the run card."""

    card: RunCard
    checkpoints: list[Checkpoint]
    left_out: list[LeftOut]
    warnings: list[str]

    def as_rows(self) -> list[dict[str, object]]:
        """One dictionary for each checkpoint."""
        return [
            {
                "checkpoint": c.name,
                **{name: _known(getattr(c, name)) for name in NUMBERS},
                **{name: getattr(c, name) for name in COLUMNS},
                "problem": None if c.problem is None else f"{c.problem.what}: {c.problem.found}",
            }
            for c in self.checkpoints
        ]

    def as_dict(self) -> dict[str, object]:
        """The scan as plain values, as ``analyze scan --json`` prints it."""
        left_out = [{"file": file.name, "why": file.why} for file in self.left_out]
        return {"checkpoints": self.as_rows(), "left_out": left_out, "warnings": self.warnings}

    def as_headline(self) -> str:
        """The number of checkpoints, and of those that cannot be read."""
        bad = sum(c.problem is not None for c in self.checkpoints)
        good = counted(len(self.checkpoints) - bad, "checkpoint")
        return f"{good}, and {bad} that cannot be read" if bad else good

    def as_reasons(self) -> list[tuple[str, str]]:
        """Left-out files by reason; files of other kinds are counted, the run card is silent."""
        reasons: dict[str, list[str]] = {}
        for file in self.left_out:
            if file.why != BY_ENDING:
                reasons.setdefault(file.why, []).append(file.name)
        named = [(listed(names, 2), why) for why, names in reasons.items()]
        kinds = Counter(
            Path(file.name).suffix or "without ending"
            for file in self.left_out
            if file.why == BY_ENDING and file.name != NAME
        )
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6))
        return [*named, (counts, BY_ENDING)] if kinds else named


@taking(ReadingOptions, without=("rename", "ignore"))
def scan(run: str | Path, **options: Unpack[FindingKeywords]) -> Scan:
    """Find and order the checkpoints of a run.

    Args:
        run: A directory, or one checkpoint file.
        **options: See ``ReadingOptions``.

    Returns:
        The checkpoints in order, what else is there and why it is left out, and warnings.

    Raises:
        InputError: no such directory, no checkpoint in it, or a broken run card or manifest.

    Example:
        ``[c.step for c in analyze.scan("runs/half_noise").checkpoints]``

    Cost: every candidate is opened; tensors are read only to compare copies.
    """
    run, reading = Path(run), built(ReadingOptions, options)
    folder = run if is_folder(run) else run.parent
    card = read_run_card(folder)
    reading = reading.with_card(card, str(folder / NAME))
    exclude = [] if card.probes is None else [folder / card.probes]
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
            f"{listed(late, 3)} cannot be read and {'was' if len(late) == 1 else 'were'} changed "
            f"within a minute of {time.strftime('%H:%M:%S')}: perhaps still being written"
        )
    return Scan(card, discovery.checkpoints, discovery.left_out, warnings)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
