"""The engine's plan: which method measures each parameter, and where its examples lie."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from analyze.gradients.layout import ExampleLayout

VMAP = "vmap(grad)"
ONE_AT_A_TIME = "one at a time"
NEVER_USED = "never used"
FALLBACKS = (VMAP, ONE_AT_A_TIME)

Signature = tuple[str, tuple[tuple[str, str], ...]]  # functional, (argument, parameter) pairs


@dataclass(frozen=True)
class CallPlan:
    """One call of the forward pass: what it is, and where its examples lie (None: irregular)."""

    signature: Signature
    layout: ExampleLayout | None


@dataclass(frozen=True)
class Plan:
    """How each parameter is measured.

    Args:
        calls: The calls of a forward pass that use parameters, in order.
        methods: Parameter to method: the functionals of its calls (``conv2d``,
            ``embedding + linear``), one of ``FALLBACKS``, or ``NEVER_USED``.
        order: Names of parameters in forward order, the never used last.
        algorithms: Kind of call to the algorithm that was fastest for it.
    """

    calls: tuple[CallPlan, ...]
    methods: dict[str, str]
    order: tuple[str, ...]
    algorithms: dict[str, str] = field(default_factory=dict)

    @property
    def by_rule(self) -> list[str]:
        """Parameters measured in the ordinary backward pass."""
        return [n for n, method in self.methods.items() if method not in (*FALLBACKS, NEVER_USED)]

    def by_fallback(self, method: str) -> list[str]:
        """Parameters measured by this fallback."""
        return [name for name, m in self.methods.items() if m == method]

    def demoted(self, names: set[str]) -> Plan:
        """The plan with each of these parameters measured by the next method."""
        return replace(self, methods={n: next_method(m) if n in names else m
                                      for n, m in self.methods.items()})  # fmt: skip

    @property
    def uses(self) -> Counter[str]:
        """How many calls use each parameter that is measured by rule."""
        by_rule = set(self.by_rule)
        names = (name for call in self.calls for _, name in call.signature[1])
        return Counter(name for name in names if name in by_rule)


def next_method(method: str) -> str:
    """A rule is followed by ``vmap(grad)``, that by one example at a time."""
    return VMAP if method not in FALLBACKS else ONE_AT_A_TIME
