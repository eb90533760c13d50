"""What every layout gives: the dictionary that was saved, and a way to read tensors of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.state import Part


@dataclass(frozen=True)
class Opened:
    """A checkpoint that was opened.

    Args:
        format: ``torch``, ``safetensors``, ...
        state: What was saved: nested dictionaries with tensors, or ``Stored`` ones.
        files: What it is made of.
        load: Reads the tensors of one part, on the CPU, and those inside of its extra states.
    """

    format: str
    state: Mapping[str, Any]
    files: tuple[Path, ...]
    load: Callable[[Part], dict[str, Any]]
