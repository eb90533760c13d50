"""How fast kinds of devices are: seconds for each thing that takes time.

``speeds.json`` has them for each kind, with where they are from; ``scripts/costs`` measures and
writes those of the CPU that it runs on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch

from analyze.gradients.costs.work import Work

NEAREST = "CPU AVX2"  # for processors that were not measured


@dataclass(frozen=True)
class Speeds:
    """Seconds of each thing that takes time, by one thread.

    ``t`` threads are ``t ** gain`` times as fast at what ``gain`` names, else no faster.
    """

    seconds: dict[str, float]
    gain: dict[str, float]

    def of(self, work: Work, threads: int) -> float:
        """Seconds that some work takes by so many threads.

        Raises:
            KeyError: something in it has no speed.
        """
        return sum(
            amount * self.seconds[what] / threads ** self.gain.get(what, 0.0)
            for what, amount in work.items()
        )


def kind_of(device: str) -> str:
    """The kind of a device of this machine by its type in torch, as ``speeds.json`` has it."""
    if device != "cpu":
        return device if device in _table() else "cuda"
    kind = f"CPU {torch.backends.cpu.get_cpu_capability()}"
    return kind if kind in _table() else NEAREST


@cache
def speeds_of(kind: str) -> Speeds:
    """The speeds of a kind of device."""
    values = _table()[kind]
    return Speeds(values["seconds"], values["gain"])


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("speeds.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
