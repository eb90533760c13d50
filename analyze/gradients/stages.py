"""The stages in which the measurement of models is prepared, for a person who waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STATISTICS = "batch norm statistics"
FIT = "fit of model, probes and loss"
CALIBRATION = "calibration: where weights meet examples, and whether these mix"
CHOICES = "sharing, batch size and algorithms"
PROOF = "proof against plain autograd"
MEASURING = "measuring"  # where the preparation has ended
Announce = Callable[[str], None]  # called with a stage that begins


@dataclass(frozen=True)
class Stage:
    """A stage that is expected, and about how long it takes."""

    name: str
    passes: float  # forward and backward passes of one probe; a forward pass is a third of one


def unheard(_: str) -> None:
    """Tell nobody of a stage."""


def expected(statistics: int, *, is_first: bool) -> list[Stage]:
    """The stages of one model, in their order.

    Args:
        statistics: Probes whose forward passes set the statistics of batch norm; 0 for none.
        is_first: Whether the plan is made on this model; on others it is proven only.
    """
    setting = [Stage(STATISTICS, statistics / 3)] if statistics else []
    # A pass over a few probes takes longer for each of them than one over many, more so in float64.
    planning = [Stage(FIT, 15), Stage(CALIBRATION, 30), Stage(CHOICES, 10)]
    return [*setting, *(planning if is_first else []), Stage(PROOF, 60)]
