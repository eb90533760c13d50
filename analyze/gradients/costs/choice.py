"""The algorithm of each call: by what it costs, or by the clock, and kept for calls of its kind."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch

from analyze.gradients.costs.costs import Costs
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.data.segments import Segments
from analyze.gradients.device.timing import Budget, fastest
from analyze.gradients.forms import Form, Summary

EACH_GRADIENT = ", each gradient"  # to the key of a form whose gradients are wanted themselves


class Choice(Protocol):
    """Names an algorithm for each form."""

    def of(self, form: Form, segments: Segments) -> str:
        """One of ``form.algorithms``, the same for all forms of one key."""

    def making(self, form: Form, segments: Segments) -> str:
        """One of ``form.making``, the same for all forms of one key."""


class _Kept:
    """The algorithm of each key of a form, found once.

    ``chosen`` has those found so far, and is added to. What is in it holds.
    """

    def __init__(self, chosen: dict[str, str]) -> None:
        self._chosen = chosen

    def of(self, form: Form, segments: Segments) -> str:
        """The algorithm of the form's key."""
        if len(form.algorithms) == 1:
            return form.algorithms[0]
        key = form.key
        if key not in self._chosen:
            self._chosen[key] = self._best(form, segments)
        return self._chosen[key]

    def making(self, form: Form, segments: Segments) -> str:
        """The one that takes least by the cost model, whatever else is chosen by."""
        if len(form.making) == 1:
            return form.making[0]
        key = form.key + EACH_GRADIENT
        if key not in self._chosen:
            self._chosen[key] = self._costs(segments).cheapest_of(form, form.making)
        return self._chosen[key]

    def _costs(self, segments: Segments) -> Costs:
        return Costs(_shape_of(segments))

    def _best(self, form: Form, segments: Segments) -> str:
        raise TypeError(f"{type(self).__name__} has no way to choose")


class ByCost(_Kept):
    """The algorithm that takes least by the cost model: the same on each machine of a kind.

    ``batch`` is what batches are like; without it, the batch at hand.
    """

    def __init__(self, chosen: dict[str, str], batch: BatchShape | None = None) -> None:
        super().__init__(chosen)
        self._batch = batch

    def _best(self, form: Form, segments: Segments) -> str:
        return self._costs(segments).cheapest(form)

    def _costs(self, segments: Segments) -> Costs:
        return Costs(self._batch or _shape_of(segments))


class ByClock(_Kept):
    """The algorithm that is the fastest on the batch at hand, timed once for each kind of call.

    Other bits may come of it in another run. ``budget`` is what timing may take.
    """

    def __init__(self, chosen: dict[str, str], budget: Budget | None = None) -> None:
        super().__init__(chosen)
        self._budget = budget

    def _best(self, form: Form, segments: Segments) -> str:
        """The fastest of the form's algorithms; what it is made of is timed first."""
        ways = {a: partial(summarised, self, form, segments, a) for a in form.algorithms}
        return fastest(ways, form.device, budget=self._budget)


def summarised(
    choice: Choice, form: Form, segments: Segments, algorithm: str | None = None
) -> Summary:
    """The summary of a form and of those it is made of, by algorithms of a choice."""
    named = algorithm or choice.of(form, segments)
    return form.summarise(named, segments, partial(summarised, choice))


def _shape_of(segments: Segments) -> BatchShape:
    return BatchShape(segments.count, len(segments), torch.get_num_threads())
