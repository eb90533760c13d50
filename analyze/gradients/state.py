"""What an engine knows, as one value: whatever is learned makes another state.

As plain values it is stored in the units of a run and in its plan, from which a resumed run goes on
to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from analyze.gradients.architecture import Architecture
from analyze.gradients.checks.proof import Proof
from analyze.gradients.costs.passes import PassCost
from analyze.gradients.costs.rates import Rates
from analyze.gradients.device.memory import Memory
from analyze.gradients.plan import Method, Plan


@dataclass(frozen=True)
class EngineState:
    """How models are measured."""

    architecture: Architecture
    plan: Plan
    memory: Memory  # the size of a batch, and where the cells' sums are held
    cost: PassCost  # of a pass over one example, from which seconds are predicted
    proof: Proof = field(default_factory=Proof)
    shares: int = 1  # parts of a model's batches, each measured by a thread
    tuned: bool = False  # whether a clock chose the batch size and the algorithms
    repeatable: bool = True  # whether a batch measured twice gave the same bits
    notes: tuple[str, ...] = ()  # what the user should know

    @property
    def numerical_choices(self) -> tuple[object, ...]:
        """What a fallback changes and numbers depend on."""
        memory = self.memory
        plan = self.plan
        return plan.methods, plan.failed, len(plan.patterns), memory.batch_size, memory.host_sums

    def seconds(self, examples: int) -> float:
        """Predicted seconds of some examples in batches, by one thread."""
        size = min(examples, self.memory.batch_size)
        return self._rates.seconds(self.cost, size) * examples / size

    @property
    def seconds_alone(self) -> float:
        """Predicted seconds of one example alone, by plain autograd."""
        return self._rates.seconds_of_autograd(self.cost, self.plan.copies)

    @property
    def _rates(self) -> Rates:
        return Rates.of(self.architecture.device)

    def noting(self, *notes: str) -> EngineState:
        """The state with further notes, each once."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def on(self, device: torch.device) -> EngineState:
        """The state for another device of the same kind, as another rank has it."""
        architecture = replace(self.architecture, device=device)
        return replace(self, architecture=architecture, memory=replace(self.memory, device=device))

    def with_batch_size(self, size: int) -> EngineState:
        """The state with batches of another size."""
        return replace(self, memory=replace(self.memory, batch_size=size))

    def with_plan(self, plan: Plan) -> EngineState:
        """The state with another plan, whose notes become its own."""
        return replace(self, plan=replace(plan, notes=())).noting(*plan.notes)

    def as_values(self) -> dict[str, Any]:
        """All that ``restored`` goes on from, as JSON has it."""
        return {
            "batch_size": self.memory.batch_size,
            "host_sums": self.memory.host_sums,
            "shares": self.shares,
            "tuned": self.tuned,
            "repeatable": self.repeatable,
            "notes": list(self.notes),
            "methods": self.plan.named_methods,
            "algorithms": dict(self.plan.algorithms),
            **self.proof.as_values(),
        }

    def with_choices_of(self, values: Mapping[str, Any]) -> EngineState:
        """The state with the choices of an earlier run in place of those of a fresh plan."""
        state = self._with(values, _methods(values))
        # Older versions have neither, and asked the clock always.
        return replace(state, shares=values.get("shares", 1), tuned=values.get("tuned", True))

    def restored(self, values: Mapping[str, Any]) -> EngineState:
        """The state with what an earlier run of the same configuration knew after a checkpoint.

        Adopted in the order of the checkpoints, this gives what that run ended with. Where a
        checkpoint between them is measured anew, what it showed stays: a method that was demoted, a
        parameter that was proven, memory that was not enough.
        """
        earlier = _methods(values)
        methods = {n: method.merged(earlier[n]) for n, method in self.plan.methods.items()}
        state = self._with(values, methods)
        repeatable = self.repeatable and values.get("repeatable", True)  # older versions: none
        return replace(state, proof=self.proof.restored(values), repeatable=repeatable).noting(
            *values.get("notes", [])
        )

    def _with(self, values: Mapping[str, Any], methods: dict[str, Method]) -> EngineState:
        algorithms = {**self.plan.algorithms, **values["algorithms"]}
        plan = replace(self.plan, methods=methods, algorithms=algorithms)
        memory = self.memory.restored(values["batch_size"], values.get("host_sums", False))
        return replace(self, plan=plan, memory=memory)


def _methods(values: Mapping[str, Any]) -> dict[str, Method]:
    return {name: Method.parse(text) for name, text in values["methods"].items()}
