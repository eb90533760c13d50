"""A method that fails gives way to the next one, and a note says why.

A programming error in a rule must not run a whole model by ``vmap(grad)`` without a word. Tests
set ``PROPAGATE``: there such an error comes out as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from analyze.errors import listed, out_of_memory
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

    def __reduce__(self) -> tuple[type[MethodFailedError], tuple[set[str], str]]:
        """The recipe for another process, which would take the reason for the parameters."""
        return type(self), (self.parameters, str(self))


def gives_way(error: Exception) -> bool:
    """Whether a rule's error leads to the next method; lack of memory to smaller batches."""
    return not (PROPAGATE or out_of_memory(error))


def demoted(plan: Plan, failure: MethodFailedError | ForwardChangedError) -> Plan:
    """The plan with the next method for what failed, and a note of the cause for the user."""
    names, reason = failure.parameters, str(failure)
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
