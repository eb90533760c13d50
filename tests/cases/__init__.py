"""The only list of layers and models: every test of numbers runs over it.

Each case is a small model with an output ``[N, classes]`` (or ``[N, T, classes]``), its inputs,
and the methods that the plan must choose for its parameters. A file a family of rules.
"""

from tests.cases import (
    attention,
    convolutions,
    derived,
    elementwise,
    embeddings,
    linear,
    norms,
    of_the_batch,
    products,
    recurrent,
    routing,
    unusual,
)
from tests.cases.case import CLASSES, EXAMPLES, Case, rules_of, settled

FAMILIES = (
    convolutions, linear, norms, embeddings, attention, products, elementwise, derived, recurrent,
    routing, unusual,
)  # fmt: skip
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
NAMED = {case.name: case for case in CASES}

# Which calls they make depends on which examples are in a batch.
OF_THE_BATCH: list[Case] = of_the_batch.CASES

__all__ = ["CASES", "CLASSES", "EXAMPLES", "NAMED", "OF_THE_BATCH", "Case", "rules_of", "settled"]
