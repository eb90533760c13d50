"""What was compared with plain autograd so far, and what it showed; nothing is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from analyze.gradients.plan import NEVER_USED, Plan

PROVEN = "proven"
ROUNDING = "zero to rounding"
ZERO = "zero: unproven"


@dataclass(frozen=True)
class Levels:
    """Squared norms, as shares of the network's, of parameters as small as rounding."""

    rounding: Mapping[str, float] = field(default_factory=dict)  # largest that was only rounding
    real: Mapping[str, float] = field(default_factory=dict)  # smallest that was a gradient

    def adding(self, noise: Mapping[str, float], gradients: Mapping[str, float]) -> Levels:
        """The levels with those of further parameters, judged at another checkpoint."""
        rounding = {n: max(v, self.rounding.get(n, 0.0)) for n, v in noise.items()}
        real = {n: min(v, self.real.get(n, v)) for n, v in gradients.items()}
        return Levels({**self.rounding, **rounding}, {**self.real, **real})


@dataclass(frozen=True)
class Proof:
    """What was compared, over all checkpoints.

    Args:
        errors: Largest relative error of each proven parameter's squared norms.
        rounding: Parameters whose gradient was never more than rounding, but not always zero.
        levels: Sizes at which parameters as small as rounding were judged.
        dtype: Precision of the comparison.
        examples: How many examples were compared.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    rounding: frozenset[str] = frozenset()
    levels: Levels = Levels()
    dtype: str = "float64"
    examples: int = 0

    def unproven(self, plan: Plan) -> set[str]:
        """Parameters in use whose reference gradient was never more than zero or rounding."""
        return {n for n, m in plan.methods.items() if m != NEVER_USED and n not in self.errors}

    def verdict(self, name: str, plan: Plan) -> str:
        """What is known of a parameter, in words."""
        if name in self.errors:
            return PROVEN
        if plan.methods[name] == NEVER_USED:
            return str(NEVER_USED)
        return ROUNDING if name in self.rounding else ZERO

    @property
    def zero_to_rounding(self) -> frozenset[str]:
        """Parameters that showed rounding and nothing else."""
        return self.rounding - self.errors.keys()

    def adding(self, errors: Mapping[str, float], rounding: Collection[str]) -> Proof:
        """The proof with what another comparison showed."""
        largest = {n: max(e, self.errors.get(n, 0.0)) for n, e in errors.items()}
        errors = {**self.errors, **largest}
        return replace(self, errors=errors, rounding=self.rounding.union(rounding))

    def as_values(self) -> dict[str, Any]:
        """The proof as JSON has it."""
        return asdict(self) | {"rounding": sorted(self.rounding)}

    def restored(self, values: Mapping[str, Any]) -> Proof:
        """The proof with that of an earlier run, as ``as_values`` gave it."""
        levels = values.get("levels", {})  # older versions have none
        rounding = {**self.levels.rounding, **levels.get("rounding", {})}
        real = {**self.levels.real, **levels.get("real", {})}
        return replace(
            self.adding(values["errors"], values["rounding"]),
            levels=Levels(rounding, real),
            dtype=values["dtype"],
            examples=max(self.examples, values["examples"]),
        )
