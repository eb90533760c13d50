"""From counted work to seconds, by a few constants of each kind of device."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch

from analyze.gradients.costs.passes import PassCost
from analyze.gradients.device.devices import is_cpu, kind_of

FILE = "passes.json"  # beside this module; scripts/pass_costs writes it
NEAREST = "AVX2"  # stands for processors that are not in the file
# Plain autograd beside rules, as measured: no Python for a parameter but for its norm, which is
# taken of a copy of the gradient in float64.
PLAIN_PARAMETER, PLAIN_VALUE = 0.4, 2.0


@dataclass(frozen=True)
class Rates:
    """Seconds of each unit of work where a batch goes forward and backward, by one thread.

    Models whose times were measured are predicted at 0.6 to 1.4 times what they took (ADR 26): good
    enough for how many threads share a measurement, and how many probes are verified.
    """

    source: str  # where the numbers are from
    operation: float  # of the forward pass
    parameter: float  # its gradient is worked out by Python
    value: float  # of a parameter: its gradient is written and added
    multiply_add: float
    byte_written: float

    def seconds(self, cost: PassCost, examples: int) -> float:
        """Those of a batch, with the sums and norms of its gradients."""
        gradients = cost.parameters * self.parameter + cost.values * self.value
        return self._of_passes(cost, examples) + gradients

    def seconds_of_autograd(self, cost: PassCost, examples: int) -> float:
        """Those of plain autograd over a batch, with the norm of each parameter's gradient."""
        parameters = PLAIN_PARAMETER * cost.parameters * self.parameter
        return self._of_passes(cost, examples) + parameters + PLAIN_VALUE * cost.values * self.value

    def _of_passes(self, cost: PassCost, examples: int) -> float:
        each = cost.multiply_adds * self.multiply_add + cost.written * self.byte_written
        return cost.operations * self.operation + examples * each

    @classmethod
    def of(cls, device: torch.device) -> Rates:
        """Those of a device's kind; of processors by the instructions that torch uses there."""
        return known_rates()[kind_among(known_rates(), device)]


def kind_among(known: Collection[str], device: torch.device) -> str:
    """The kind of a device, or the nearest of those that are known."""
    kind = torch.backends.cpu.get_cpu_capability() if is_cpu(device) else kind_of(device).name
    return kind if kind in known else NEAREST


@cache
def known_rates() -> dict[str, Rates]:
    """Those of each kind of device."""
    text = resources.files(__package__).joinpath(FILE).read_text("utf-8")
    return {kind: Rates(**values) for kind, values in json.loads(text).items()}
