"""The algorithm of each call: by what it costs, or by the clock, and kept for calls of its kind."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol

import torch

from analyze.errors import out_of_memory
from analyze.gradients.costs.costs import Costs
from analyze.gradients.data.batches import BatchShape
from analyze.gradients.data.segments import Segments
from analyze.gradients.device.timing import Budget, fastest
from analyze.gradients.forms import Form, Summary

EACH_GRADIENT = ", each gradient"  # to the key of a form whose gradients are wanted themselves
Failed = frozenset[tuple[str, str]]  # keys of forms and algorithms


class Choice(Protocol):
    """Names an algorithm for each form."""

    def of(self, form: Form, segments: Segments) -> str:
        """One of ``form.algorithms``, the same for all forms of one key."""

    def others(self, form: Form, algorithm: str) -> list[str]:
        """Which are left where that one fails."""

    def making(self, form: Form, segments: Segments) -> str:
        """One of ``form.making``, the same for all forms of one key."""


class AlgorithmError(Exception):
    """An algorithm of a form failed, where others are left; why is its ``__cause__``."""

    def __init__(self, key: str, algorithm: str, others: Collection[str]) -> None:
        super().__init__(f"{algorithm} failed")
        self.key = key
        self.algorithm = algorithm
        self.others = others


class _Kept:
    """The algorithm of each key of a form, found once.

    ``chosen`` has those found so far, and is added to. What is in it holds. ``failed`` are keys and
    algorithms that are chosen no more.
    """

    def __init__(self, chosen: dict[str, str], failed: Failed = frozenset()) -> None:
        self._chosen = chosen
        self._failed = failed

    def of(self, form: Form, segments: Segments) -> str:
        """The algorithm of the form's key."""
        if len(form.algorithms) == 1:
            return form.algorithms[0]
        key = form.key
        if self._chosen.get(key) not in form.algorithms:  # an older version had others
            left = [a for a in form.algorithms if (key, a) not in self._failed]
            self._chosen[key] = left[0] if len(left) == 1 else self._best(form, left, segments)
        return self._chosen[key]

    def others(self, form: Form, algorithm: str) -> list[str]:
        """Algorithms of the form that are left without one."""
        gone = {algorithm} | {a for key, a in self._failed if key == form.key}
        return [a for a in form.algorithms if a not in gone]

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

    def _best(self, form: Form, among: Sequence[str], segments: Segments) -> str:
        raise TypeError(f"{type(self).__name__} has no way to choose")


class ByCost(_Kept):
    """The algorithm that takes least by the cost model: the same on each machine of a kind.

    ``batch`` is what batches are like; without it, the batch at hand.
    """

    def __init__(
        self,
        chosen: dict[str, str],
        batch: BatchShape | None = None,
        failed: Failed = frozenset(),
    ) -> None:
        super().__init__(chosen, failed)
        self._batch = batch

    def _best(self, form: Form, among: Sequence[str], segments: Segments) -> str:
        return self._costs(segments).cheapest_of(form, among)

    def _costs(self, segments: Segments) -> Costs:
        return Costs(self._batch or _shape_of(segments))


class ByClock(_Kept):
    """The algorithm that is the fastest on the batch at hand, timed once for each kind of call.

    Other bits may come of it in another run. ``budget`` is what timing may take.
    """

    def __init__(
        self,
        chosen: dict[str, str],
        budget: Budget | None = None,
        failed: Failed = frozenset(),
    ) -> None:
        super().__init__(chosen, failed)
        self._budget = budget

    def _best(self, form: Form, among: Sequence[str], segments: Segments) -> str:
        """The fastest of some algorithms of the form; what it is made of is timed first."""
        ways = {a: partial(summarised, self, form, segments, a) for a in among}
        return fastest(ways, form.device, budget=self._budget)


def summarised(
    choice: Choice, form: Form, segments: Segments, algorithm: str | None = None
) -> Summary:
    """The summary of a form and of those it is made of, by algorithms of a choice.

    Raises:
        AlgorithmError: an algorithm failed that is one of several.
    """
    named = algorithm or choice.of(form, segments)
    try:
        return form.summarise(named, segments, partial(summarised, choice))
    except Exception as error:
        blame(choice, form, named, error)
        raise


def blame(choice: Choice, form: Form, algorithm: str, error: Exception) -> None:
    """Raise ``AlgorithmError`` for what an algorithm of a form raised, if others are left.

    What is said of a form that this one is made of, or of memory, stays as it is.
    """
    others = choice.others(form, algorithm)
    if others and not (isinstance(error, AlgorithmError) or out_of_memory(error)):
        raise AlgorithmError(form.key, algorithm, others) from error


def _shape_of(segments: Segments) -> BatchShape:
    return BatchShape(segments.count, len(segments), torch.get_num_threads())
