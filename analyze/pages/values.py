"""A value as the pages print it, and dashes of lines that share a colour."""

from __future__ import annotations

from dataclasses import dataclass

DASHES = (None, "7,3", "2,3", "9,3,2,3")


@dataclass(frozen=True)
class Value:
    """M-coherence with its standard error (NaN where unknown), and where in training.

    ``where`` is in words, as ``step 32``, and ``tick`` the number alone; ``marks`` are the letters
    of its warnings; ``place`` counts the checkpoints.
    """

    value: float
    error: float
    where: str
    tick: str
    marks: str = ""
    place: int = 0
