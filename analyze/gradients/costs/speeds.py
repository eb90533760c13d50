"""How fast kinds of devices are: seconds for each thing that takes time.

``speeds.json`` has them for each kind, and where they are from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch

from analyze.gradients.costs.rates import kind_among
from analyze.gradients.costs.work import CALLS, ONEDNN, SINGLE, TIMES, Work
from analyze.gradients.device import float64

FILE = "speeds.json"  # beside this module; scripts/costs writes it
DEAR = ", dear float64"  # after the name of a kind

# What one thread does, however many there are.
IN_TURN = (CALLS, f"{SINGLE} {TIMES}", f"{ONEDNN} {TIMES}")


@dataclass(frozen=True)
class Speeds:
    """Seconds of each thing that takes time, by one thread.

    ``t`` threads are ``t ** gain`` times as fast at all but what is done in turn.
    """

    seconds: dict[str, float]
    gain: float = 0.0

    def of(self, work: Work, threads: int) -> float:
        """Seconds that some work takes by so many threads.

        Raises:
            KeyError: something in it has no speed.
        """
        faster = threads**self.gain
        return sum(
            amount * self.seconds[what] / (1.0 if what in IN_TURN else faster)
            for what, amount in work.items()
        )


def speeds_of(device: torch.device) -> Speeds:
    """The speeds of a device's kind, those with dear float64 where there are any."""
    known = known_speeds()
    kind = kind_among(known, device)
    dear = kind + DEAR
    return known[dear if dear in known and float64.is_dear(device) else kind]


@cache
def known_speeds() -> dict[str, Speeds]:
    """Those of each kind of device."""
    text = resources.files(__package__).joinpath(FILE).read_text("utf-8")
    return {
        kind: Speeds(values["seconds"], values["gain"]) for kind, values in json.loads(text).items()
    }
