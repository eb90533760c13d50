"""One rule per kind of call in which weights meet the examples: their per-example gradients.

A rule is a pure function of a call. A new functional is a new entry in ``RULES``; nothing else
in the engine changes. Calls of functionals without a rule go to autograd of that one call.
"""

from __future__ import annotations

from collections.abc import Callable

from analyze.gradients.rules.broadcasting import BROADCASTING
from analyze.gradients.rules.contraction import CONTRACTIONS
from analyze.gradients.rules.convolution import CONVOLUTIONS
from analyze.gradients.rules.elementwise import ELEMENTWISE
from analyze.gradients.rules.linear import LINEARS
from analyze.gradients.rules.lookup import LOOKUPS
from analyze.gradients.rules.normalization import NORMALIZATIONS
from analyze.gradients.rules.one_call import ALONE, MASKED
from analyze.gradients.rules.rule import Call, Rule

RULES: dict[Callable[..., object], Rule] = {
    function: rule
    for rule in (
        *CONVOLUTIONS,
        *LINEARS,
        *CONTRACTIONS,
        *NORMALIZATIONS,
        *LOOKUPS,
        *ELEMENTWISE,
        *BROADCASTING,
    )
    for function in rule.functions
}

__all__ = ["ALONE", "MASKED", "RULES", "Call", "Rule"]
