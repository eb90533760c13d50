"""From counted work to seconds, by a few constants of each kind of device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch

from analyze.gradients.costs.passes import PassCost

FILE = "passes.json"  # beside this module; scripts/pass_costs writes it
NEAREST = "AVX2"  # stands for processors that are not in the file


@dataclass(frozen=True)
class Rates:
    """Seconds of each unit of work where a batch goes forward and backward, by one thread.

    They are right to a third or so: good enough for how many threads share a measurement, and how
    many probes are verified, which nobody would choose more finely.
    """

    source: str  # where the numbers are from
    operation: float  # of the forward pass
    parameter: float  # its gradient is worked out by Python
    value: float  # of a parameter: its gradient is written and added
    multiply_add: float
    byte_written: float

    def seconds(self, cost: PassCost, examples: int) -> float:
        """Those of a batch, with the sums and norms of its gradients."""
        each = cost.multiply_adds * self.multiply_add + cost.written * self.byte_written
        once = cost.operations * self.operation + cost.parameters * self.parameter
        return once + cost.values * self.value + examples * each

    @classmethod
    def of(cls, device: torch.device) -> Rates:
        """Those of a device's kind; of processors by the instructions that torch uses there."""
        known = known_rates()
        kind = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type
        return known.get(kind, known[NEAREST])


@cache
def known_rates() -> dict[str, Rates]:
    """Those of each kind of device."""
    text = resources.files(__package__).joinpath(FILE).read_text("utf-8")
    return {kind: Rates(**values) for kind, values in json.loads(text).items()}
