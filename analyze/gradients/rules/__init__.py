"""One rule per functional that uses parameters: which of them, and their per-example gradients.

A rule is a pure function of a call. A new functional is a new entry in ``RULES``; nothing else
in the engine changes.
"""

from __future__ import annotations

from collections.abc import Callable

from analyze.gradients.rules.convolution import CONVOLUTIONS
from analyze.gradients.rules.embedding import EMBEDDINGS
from analyze.gradients.rules.linear import LINEARS
from analyze.gradients.rules.normalization import NORMALIZATIONS
from analyze.gradients.rules.rule import Call, Rule

RULES: dict[Callable[..., object], Rule] = {
    rule.function: rule for rule in (*CONVOLUTIONS, *LINEARS, *NORMALIZATIONS, *EMBEDDINGS)
}

__all__ = ["RULES", "Call", "Rule"]
