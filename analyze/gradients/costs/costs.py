"""The time that each algorithm of a form takes, and the one that takes least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from analyze.gradients.costs import other_forms, outer_products
from analyze.gradients.costs.speeds import speeds_of
from analyze.gradients.costs.work import Work
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.forms import (
    Explicit,
    Form,
    OuterProducts,
    Placed,
    PulledBack,
    ScatteredRows,
    Sum,
)
from analyze.gradients.rules.one_call import OfOneCall

# Of a form, an algorithm, a batch, and a function for the cheapest work of a form.
WORK: dict[type[Form], Callable[[Any, str, BatchShape, Callable[[Form], Work]], Work]] = {
    Explicit: other_forms.explicit,
    OfOneCall: other_forms.of_one_call,
    OuterProducts: lambda form, algorithm, batch, _: outer_products.work(form, algorithm, batch),
    Placed: other_forms.placed,
    PulledBack: other_forms.pulled_back,
    ScatteredRows: other_forms.scattered,
    Sum: other_forms.summed,
}


@dataclass(frozen=True)
class Costs:
    """What algorithms take for batches of one shape: arithmetic on shapes, without a clock."""

    batch: BatchShape

    def work(self, form: Form, algorithm: str) -> Work:
        """What an algorithm does for a batch.

        Raises:
            KeyError: the kind of form, or the algorithm, is not known here.
        """
        return WORK[type(form)](form, algorithm, self.batch, self._cheapest_work)

    def seconds(self, form: Form, algorithm: str) -> float:
        """The time that an algorithm takes for a batch on the form's kind of device."""
        return speeds_of(form.device).of(self.work(form, algorithm), self.batch.threads)

    def cheapest(self, form: Form) -> str:
        """The algorithm that takes least; of equals the first."""
        return self.cheapest_of(form, form.algorithms)

    def cheapest_of(self, form: Form, algorithms: Sequence[str]) -> str:
        """The one of some algorithms that takes least; of equals the first."""
        if len(algorithms) == 1:
            return algorithms[0]
        return min(algorithms, key=lambda algorithm: self.seconds(form, algorithm))

    def _cheapest_work(self, form: Form) -> Work:
        return self.work(form, self.cheapest(form))
