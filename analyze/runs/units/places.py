"""Where a run keeps its units: the names of the folder and of its files; no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from analyze.files.targets import UNITS


def folder_of(output: Path) -> Path:
    """The folder of the units of a results file, whose path may be any that a user writes."""
    return output.parent / (output.name + UNITS)


def unit_name(checkpoint: str) -> str:
    """The name of a checkpoint's unit in the folder."""
    return f"{hashlib.sha256(checkpoint.encode()).hexdigest()[:32]}.unit"
