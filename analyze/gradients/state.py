"""What an engine knows, as one value: whatever is found out makes another state of it.

As plain values it lies in the units of a run and in its plan, from which a resumed run goes on to
the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from analyze.gradients.architecture import Architecture
from analyze.gradients.checks.proof import Proof
from analyze.gradients.device.memory import Memory
from analyze.gradients.plan import Method, Plan


@dataclass(frozen=True)
class EngineState:
    """How models are measured.

    Args:
        architecture: What all of them have in common.
        plan: How each parameter is measured.
        memory: The size of a batch, and where the cells' sums are held.
        proof: What was compared with plain autograd.
        shares: Of a model's batches, each measured by a thread if there are several.
        repeatable: Whether the same batch measured twice gave the same bits.
        notes: What the user should know of how it was measured.
    """

    architecture: Architecture
    plan: Plan
    memory: Memory
    proof: Proof = field(default_factory=Proof)
    shares: int = 1
    repeatable: bool = True
    notes: tuple[str, ...] = ()

    @property
    def way(self) -> tuple[object, ...]:
        """What a fallback changes, and numbers depend on."""
        memory = self.memory
        return self.plan.methods, len(self.plan.patterns), memory.batch_size, memory.host_sums

    def noting(self, *notes: str) -> EngineState:
        """The state with further notes, each once."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def with_batch_size(self, size: int) -> EngineState:
        """The state with batches of another size."""
        return replace(self, memory=replace(self.memory, batch_size=size))

    def with_plan(self, plan: Plan) -> EngineState:
        """The state with another plan, whose notes become its own."""
        return replace(self, plan=replace(plan, notes=())).noting(*plan.notes)

    def as_values(self) -> dict[str, Any]:
        """As JSON has it: all that ``adopted`` goes on from."""
        return {
            "batch_size": self.memory.batch_size,
            "host_sums": self.memory.host_sums,
            "shares": self.shares,
            "repeatable": self.repeatable,
            "notes": list(self.notes),
            "methods": self.plan.named_methods,
            "algorithms": dict(self.plan.algorithms),
            **self.proof.as_values(),
        }

    def with_choices_of(self, values: Mapping[str, Any]) -> EngineState:
        """The state with the choices of an earlier run in place of those of a fresh plan."""
        state = self._with(values, _methods(values))
        return replace(state, shares=values.get("shares", 1))  # older versions have none

    def adopted(self, values: Mapping[str, Any]) -> EngineState:
        """The state with what an earlier run of the same configuration knew after a checkpoint.

        In the order of the checkpoints that gives what that run ended with. Where one between them
        is measured anew, what it showed stays: a method that was demoted, a parameter that was
        proven, memory that was not enough.
        """
        earlier = _methods(values)
        methods = {n: method.merged(earlier[n]) for n, method in self.plan.methods.items()}
        state = self._with(values, methods)
        repeatable = self.repeatable and values.get("repeatable", True)  # older versions: none
        return replace(state, proof=self.proof.adopted(values), repeatable=repeatable).noting(
            *values.get("notes", [])
        )

    def _with(self, values: Mapping[str, Any], methods: dict[str, Method]) -> EngineState:
        algorithms = {**self.plan.algorithms, **values["algorithms"]}
        plan = replace(self.plan, methods=methods, algorithms=algorithms)
        memory = self.memory.adopted(values["batch_size"], values.get("host_sums", False))
        return replace(self, plan=plan, memory=memory)


def _methods(values: Mapping[str, Any]) -> dict[str, Method]:
    return {name: Method.parse(text) for name, text in values["methods"].items()}
