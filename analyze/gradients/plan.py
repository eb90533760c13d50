"""The engine's plan: the method of each parameter, and where the examples lie in each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from analyze.gradients.data.batches import BatchShape
from analyze.gradients.data.example_axes import ExampleAxis

DERIVED = "derived"
TRACED = "rows traced"


@dataclass(frozen=True)
class Method:
    """How a parameter's gradients are measured."""

    rules: tuple[str, ...] = ()  # of its calls; none for a fallback, or where it is never used
    derived: bool = False  # a call takes a tensor that is computed from the parameter
    traced: bool = False  # the example of each row of a call is found in each batch
    without_rules: str = ""  # the name of a method without rules

    @classmethod
    def parse(cls, text: str) -> Method:
        """The method of a text such as ``conv2d`` or ``embedding + linear, derived``."""
        for method in (*FALLBACKS, NEVER_USED):
            if text == str(method):
                return method
        plain = text.removesuffix(f", {TRACED}")
        rules = plain.removesuffix(f", {DERIVED}")
        return cls(tuple(rules.split(" + ")), derived=rules != plain, traced=plain != text)

    def __str__(self) -> str:
        marks = [mark for mark, on in ((DERIVED, self.derived), (TRACED, self.traced)) if on]
        return self.without_rules or ", ".join([" + ".join(self.rules), *marks])

    @property
    def next(self) -> Method:
        """The method to try after this one: rules, then ``vmap(grad)``, then one at a time."""
        return ONE_AT_A_TIME if self in FALLBACKS else VMAP

    def uses(self, name: str) -> bool:
        """Whether this is the fallback of that name, or has a rule of that name."""
        return name == str(self) or name in self.rules

    def merged(self, other: Method) -> Method:
        """The method that holds where either of two does: the later fallback, or all the rules."""
        for method in (ONE_AT_A_TIME, VMAP):
            if method in (self, other):
                return method
        if NEVER_USED in (self, other):
            return other if self == NEVER_USED else self
        rules = tuple(dict.fromkeys((*self.rules, *other.rules)))
        return Method(rules, self.derived or other.derived, self.traced or other.traced)


VMAP = Method(without_rules="vmap(grad)")
ONE_AT_A_TIME = Method(without_rules="one at a time")
NEVER_USED = Method(without_rules="never used")
FALLBACKS = (VMAP, ONE_AT_A_TIME)


@dataclass(frozen=True)
class CallPlan:
    """One call of the forward pass in which weights meet the examples."""

    number: int  # among the calls that a gradient goes through
    function: str  # name of the functional
    rule: str  # name of the rule
    weights: Mapping[str, tuple[str, ...]]  # argument to the parameters it is computed from
    axes: Mapping[str, ExampleAxis]  # argument to where the examples lie in it
    output: ExampleAxis  # where the examples lie in the output
    derived: tuple[str, ...] = ()  # arguments that are no parameter or part of one
    traced: bool = False  # whether the rows belong to other examples in each batch


@dataclass(frozen=True)
class Plan:
    """How each parameter is measured.

    Args:
        calls: The calls of a forward pass that rules measure, in order.
        methods: Parameter to method.
        order: Names of parameters in forward order, the never used last.
        algorithms: Kind of call to the algorithm that was chosen for it.
        failed: Kinds of call with algorithms that failed, which are not chosen again.
        batch: What the batches of the run are like, by which algorithms are chosen; None until that
            is known.
        copies: How often an example stands in its batch where it is measured one at a time: twice
            where torch's backward pass is wrong for a batch of one.
        others: Further patterns of calls, where the examples decide which calls a model makes; each
            was calibrated and proven like the first.
        notes: Why a method gave way to the next one, for the user.
    """

    calls: tuple[CallPlan, ...]
    methods: dict[str, Method]
    order: tuple[str, ...]
    algorithms: dict[str, str] = field(default_factory=dict)
    failed: frozenset[tuple[str, str]] = frozenset()
    batch: BatchShape | None = None
    copies: int = 1
    others: tuple[tuple[CallPlan, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def patterns(self) -> list[Plan]:
        """The plan for each pattern of calls, the first one first."""
        return [replace(self, calls=calls, others=()) for calls in (self.calls, *self.others)]

    @property
    def named_methods(self) -> dict[str, str]:
        """Parameter to method, in words."""
        return {name: str(method) for name, method in self.methods.items()}

    def with_pattern(self, other: Plan) -> Plan:
        """The plan with another one's calls as a further pattern, by methods that hold for both."""
        methods = {n: method.merged(other.methods[n]) for n, method in self.methods.items()}
        others, notes = (*self.others, other.calls), (*self.notes, *other.notes)
        both = replace(self, methods=methods, others=others, notes=notes)
        return both.traced({name for name, method in methods.items() if method.traced})

    def traced(self, names: set[str]) -> Plan:
        """The plan with the rows of each call of these parameters traced in each batch."""

        def with_rows_traced(call: CallPlan) -> CallPlan:
            takes_one = any(names & {*weight} for weight in call.weights.values())
            return replace(call, traced=True) if takes_one else call

        methods = self.methods | {n: replace(self.methods[n], traced=True) for n in names}
        calls = tuple(map(with_rows_traced, self.calls))
        others = tuple(tuple(map(with_rows_traced, other)) for other in self.others)
        return replace(self, methods=methods, calls=calls, others=others)

    def without_algorithm(self, key: str, algorithm: str) -> Plan:
        """The plan that chooses another algorithm for a kind of call."""
        kept = {k: chosen for k, chosen in self.algorithms.items() if k != key}
        return replace(self, algorithms=kept, failed=self.failed | {(key, algorithm)})

    def demoted(self, names: set[str]) -> Plan:
        """The plan with each of these parameters measured by the next method."""
        return replace(self, methods=self.methods | {n: self.methods[n].next for n in names})

    @cached_property
    def by_rule(self) -> list[str]:
        """Parameters measured in the ordinary backward pass."""
        return [name for name, method in self.methods.items() if method.rules]

    @property
    def used(self) -> set[str]:
        """Parameters to which autograd knows a path."""
        return {name for name, method in self.methods.items() if method != NEVER_USED}

    def by_fallback(self, method: Method) -> list[str]:
        """Parameters measured by this fallback."""
        return [name for name, m in self.methods.items() if m == method]

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
        wanted = {
            call.number: frozenset(
                k for k, names in call.weights.items() if self.uses.keys() & names
            )
            for call in self.calls
        }
        return {number: weights for number, weights in wanted.items() if weights}
