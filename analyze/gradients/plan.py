"""The engine's plan: which method measures each parameter, and where its examples lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from analyze.gradients.layout import ExampleLayout

VMAP = "vmap(grad)"
ONE_AT_A_TIME = "one at a time"
NEVER_USED = "never used"
FALLBACKS = (VMAP, ONE_AT_A_TIME)
DERIVED = "derived"  # of a tensor computed from the parameter


@dataclass(frozen=True)
class CallPlan:
    """One call of the forward pass in which weights meet the examples.

    Args:
        number: Which of the calls that a gradient goes through.
        function: Name of the functional.
        rule: Name of the rule.
        weights: Argument to the names of the parameters it is computed from.
        layouts: Argument to where the examples lie in it.
        output: Where they lie in the output.
        derived: The weights that are computed from parameters, not parameters or parts of one.
    """

    number: int
    function: str
    rule: str
    weights: Mapping[str, tuple[str, ...]]
    layouts: Mapping[str, ExampleLayout]
    output: ExampleLayout
    derived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How each parameter is measured.

    Args:
        calls: The calls of a forward pass that rules measure, in order.
        methods: Parameter to method: the rules of its calls (``conv2d``, ``embedding + linear``;
            ``linear, derived`` of a weight that is computed from the parameter), one of
            ``FALLBACKS``, or ``NEVER_USED``.
        order: Names of parameters in forward order, the never used last.
        algorithms: Kind of call to the algorithm that was fastest for it.
        copies: How often an example stands in its batch where it is measured one at a time: twice
            where torch's backward pass is wrong for a batch of one.
    """

    calls: tuple[CallPlan, ...]
    methods: dict[str, str]
    order: tuple[str, ...]
    algorithms: dict[str, str] = field(default_factory=dict)
    copies: int = 1

    @cached_property
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

    def without_rules(self) -> Plan:
        """The plan where the calls are others: no rule holds, nothing is surely unused."""
        return self.demoted({*self.by_rule, *self.by_fallback(NEVER_USED)})

    @cached_property
    def uses(self) -> Counter[str]:
        """How many weights of calls each parameter is part of, for those measured by rule."""
        by_rule = set(self.by_rule)
        return Counter(
            name
            for call in self.calls
            for names in call.weights.values()
            for name in names
            if name in by_rule
        )

    @cached_property
    def wanted(self) -> dict[int, frozenset[str]]:
        """The weights of each call, by its number, of which a parameter is measured by rule."""
        found = {
            call.number: frozenset(
                k for k, names in call.weights.items() if not self.uses.keys().isdisjoint(names)
            )
            for call in self.calls
        }
        return {number: weights for number, weights in found.items() if weights}


def uses(method: str, rule: str) -> bool:
    """Whether a parameter's method, as the plan has it, includes a rule or is that fallback."""
    return rule == method or rule in method.removesuffix(f", {DERIVED}").split(" + ")


def next_method(method: str) -> str:
    """A rule is followed by ``vmap(grad)``, as is what seemed unused; that by one at a time."""
    return VMAP if method not in FALLBACKS else ONE_AT_A_TIME
