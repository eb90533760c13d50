"""A method that fails gives way to the next one, and a note says why.

A programming error in a rule must not run a whole model by ``vmap(grad)`` without a word. Tests
set ``PROPAGATE``: there such an error comes out as it is.
"""

from __future__ import annotations

from collections.abc import Collection

from analyze.errors import listed
from analyze.gradients.device.memory import out_of_memory
from analyze.gradients.plan import NEVER_USED, VMAP, Plan
from analyze.gradients.step.intercept import ForwardChangedError

PROPAGATE = False  # whether what goes wrong in a rule is raised instead of measured around


class MethodFailedError(Exception):
    """A method could not work out the gradients of some parameters; the next one can.

    Args:
        parameters: Those of a call whose rule failed, or those of a fallback.
        reason: What happened, as a sentence without its end.
    """

    def __init__(self, parameters: Collection[str], reason: str = "a method failed") -> None:
        super().__init__(reason)
        self.parameters = set(parameters)


def gives_way(error: Exception) -> bool:
    """Whether what a rule raised leads to the next method.

    Memory that is not enough is not the rule's fault: smaller batches are left.
    """
    return not (PROPAGATE or out_of_memory(error))


def demoted(plan: Plan, failure: MethodFailedError | ForwardChangedError, notes: list[str]) -> Plan:
    """The plan with the next method for what failed, and a note of the cause for the user."""
    names, reason = failure.parameters, str(failure)
    if isinstance(failure, ForwardChangedError):
        names = names or {*plan.by_rule, *plan.by_fallback(NEVER_USED)}
        reason = f"other examples make other calls: {failure}"
    later = plan.demoted(names)
    concerned = [name for name in later.methods if name in names]
    for method in dict.fromkeys(later.methods[name] for name in concerned):
        own = [name for name in concerned if later.methods[name] == method]
        how = f"by {VMAP}" if method == VMAP else method
        notes.append(f"{listed(own, 4)}: measured {how}, as {reason}")
    return later


def described(error: BaseException) -> str:
    """An error by its class and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
