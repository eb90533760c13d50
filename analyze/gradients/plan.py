"""The engine's plan: which method measures each parameter, and where its examples lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from analyze.gradients.data.example_axes import ExampleAxis

VMAP = "vmap(grad)"
ONE_AT_A_TIME = "one at a time"
NEVER_USED = "never used"
FALLBACKS = (VMAP, ONE_AT_A_TIME)
DERIVED = "derived"  # of a tensor computed from the parameter
TRACED = "rows traced"  # which example a row belongs to is found in each batch


@dataclass(frozen=True)
class CallPlan:
    """One call of the forward pass in which weights meet the examples.

    Args:
        number: Which of the calls that a gradient goes through.
        function: Name of the functional.
        rule: Name of the rule.
        weights: Argument to the names of the parameters it is computed from.
        axes: Argument to where the examples lie in it.
        output: Where they lie in the output.
        derived: The weights that are computed from parameters, not parameters or parts of one.
        traced: Whether the rows along these axes belong to other examples in each batch.
    """

    number: int
    function: str
    rule: str
    weights: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, ExampleAxis]
    output: ExampleAxis
    derived: tuple[str, ...] = ()
    traced: bool = False


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
        others: The calls of other forward passes, where the examples of a batch decide which calls
            a model makes: each is a pattern that was calibrated and proven like the first.
        notes: Why a method gave way to the next one, for the user.
    """

    calls: tuple[CallPlan, ...]
    methods: dict[str, str]
    order: tuple[str, ...]
    algorithms: dict[str, str] = field(default_factory=dict)
    copies: int = 1
    others: tuple[tuple[CallPlan, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def patterns(self) -> list[Plan]:
        """The plan for each pattern of calls, in the order in which they were found."""
        return [replace(self, calls=calls, others=()) for calls in (self.calls, *self.others)]

    def with_pattern(self, other: Plan) -> Plan:
        """The plan for the passes of another one as well, by methods that hold for both."""
        methods = merged(self.methods, other.methods)
        others, notes = (*self.others, other.calls), (*self.notes, *other.notes)
        both = replace(self, methods=methods, others=others, notes=notes)
        return both.traced({n for n, m in methods.items() if TRACED in _split(m)[1]})

    def traced(self, names: set[str]) -> Plan:
        """The plan with the rows of each call of these parameters traced in each batch."""

        def calls_of(calls: tuple[CallPlan, ...]) -> tuple[CallPlan, ...]:
            return tuple(
                replace(
                    call, traced=call.traced or any(names & {*w} for w in call.weights.values())
                )
                for call in calls
            )

        methods = self.methods | {n: _joined(*_split(self.methods[n]), TRACED) for n in names}
        others = tuple(map(calls_of, self.others))
        return replace(self, methods=methods, calls=calls_of(self.calls), others=others)

    def is_traced(self, name: str) -> bool:
        """Whether the rows of a parameter's calls are traced in each batch."""
        return TRACED in _split(self.methods[name])[1]

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
    return rule == method or rule in _split(method)[0]


def merged(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """The method of each parameter that holds wherever one of two does.

    The later of two where one is a fallback; of rules, all of them.
    """
    return {name: _of_both(method, theirs[name]) for name, method in ours.items()}


def _of_both(one: str, other: str) -> str:
    for method in (ONE_AT_A_TIME, VMAP):
        if method in (one, other):
            return method
    if NEVER_USED in (one, other):
        return other if one == NEVER_USED else one
    (ours, marks), (theirs, further) = _split(one), _split(other)
    return _joined([*ours, *theirs], marks | further)


def _split(method: str) -> tuple[list[str], set[str]]:
    """The rules of a method, and what is marked of it."""
    marks = set()
    for mark in (TRACED, DERIVED):
        if method.endswith(f", {mark}"):
            method = method.removesuffix(f", {mark}")
            marks.add(mark)
    return method.split(" + "), marks


def _joined(rules: Iterable[str], marks: Collection[str], *further: str) -> str:
    told = [mark for mark in (DERIVED, TRACED) if mark in (*marks, *further)]
    return ", ".join([" + ".join(dict.fromkeys(rules)), *told])


def next_method(method: str) -> str:
    """A rule is followed by ``vmap(grad)``, as is what seemed unused; that by one at a time."""
    return VMAP if method not in FALLBACKS else ONE_AT_A_TIME
