"""A method that fails gives way to the next one, and a note says why.

A programming error in a rule must not run a whole model by ``vmap(grad)`` without a word. Tests
set ``PROPAGATE``: there such an error comes out as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from analyze.errors import described, listed, out_of_memory
from analyze.gradients.costs.choice import AlgorithmError
from analyze.gradients.plan import NEVER_USED, VMAP, Method, Plan
from analyze.gradients.step.intercept import ForwardChangedError

PROPAGATE = False  # whether what goes wrong in a rule is raised instead of measured around


class MethodFailedError(Exception):
    """A method could not work out the gradients of some parameters; the next one may.

    ``reason`` is a sentence without its end.
    """

    def __init__(self, parameters: Collection[str], reason: str = "a method failed") -> None:
        super().__init__(reason)
        self.parameters = set(parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        """The recipe for another process, which would take the reason for the parameters."""
        return type(self), (self.parameters, str(self))


class AlgorithmFailedError(MethodFailedError):
    """One of several algorithms of a rule failed for some parameters; the rule has others."""

    def __init__(
        self, parameters: Collection[str], key: str, algorithm: str, others: Collection[str],
        reason: str,
    ) -> None:  # fmt: skip
        super().__init__(parameters, reason)
        self.key, self.algorithm, self.others = key, algorithm, others

    @classmethod
    def of(cls, parameters: Collection[str], error: AlgorithmError) -> AlgorithmFailedError:
        """That of what went wrong in an algorithm."""
        reason = f"{error.algorithm} failed: {described(error.__cause__ or error)}"
        return cls(parameters, error.key, error.algorithm, error.others, reason)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self.parameters, self.key, self.algorithm, self.others, str(self)
        return type(self), arguments


def gives_way(error: Exception) -> bool:
    """Whether a rule's error leads to the next method; lack of memory to smaller batches."""
    return not (PROPAGATE or out_of_memory(error))


def demoted(plan: Plan, failure: MethodFailedError | ForwardChangedError) -> Plan:
    """The plan with another way to measure what failed, and a note of the cause for the user."""
    names, reason = failure.parameters, str(failure)
    if isinstance(failure, AlgorithmFailedError):
        others = " or ".join(failure.others)
        other = f"{listed(sorted(names), 4)}: measured by {others}, as {reason}"
        later = plan.without_algorithm(failure.key, failure.algorithm)
        return replace(later, notes=(*plan.notes, other))
    if isinstance(failure, ForwardChangedError):
        names = names or {*plan.by_rule, *plan.by_fallback(NEVER_USED)}
        reason = f"other examples make other calls: {failure}"
    later = plan.demoted(names)
    by_method: dict[Method, list[str]] = {}
    for name, method in later.methods.items():
        if name in names:
            by_method.setdefault(method, []).append(name)
    notes = [
        f"{listed(same, 4)}: measured {'by ' if method == VMAP else ''}{method}, as {reason}"
        for method, same in by_method.items()
    ]
    return replace(later, notes=(*plan.notes, *notes))
