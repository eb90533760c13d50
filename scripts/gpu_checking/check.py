"""What a part of the check is told, and what it gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

Finding = tuple[str, Any]  # a name, and what is written to JSON


@dataclass(frozen=True)
class Check:
    """Where to run, until when, and whether tiny models do."""

    device: torch.device
    quick: bool
    end: float  # on the monotonic clock

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


@dataclass(frozen=True)
class Part:
    """Something that is checked in a process of its own, and the seconds that it has."""

    findings: Callable[[Check], Iterator[Finding]]
    seconds: float
