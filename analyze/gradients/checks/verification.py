"""Verification while measuring: the run's own numbers of some probes, found again otherwise.

Some probes are measured a second time in another company; some are compared with plain autograd
alone. What differs by more than rounding is tried by plain autograd in the very batch: either the
method is wrong, or the model mixes examples, or it is the model's own rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analyze.errors import CheckpointError, listed
from analyze.gradients.checks.precision import ELSEWHERE, LOSSES, RELATIVE, rounding_share, shaken
from analyze.gradients.checks.reference import Gradients, alone, beside_others, of_one, squared_norm
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.measurement import Verified
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import Plan
from analyze.gradients.sums.observation import Observation

AT_LEAST = 2  # probes compared with plain autograd at each checkpoint
AT_MOST = 64
SHARE_OF_TIME = 0.015  # of the measurement, for more of them
TRIED = 4  # probes that differ of which the reason is looked for, those that differ most
SHAKES = 4  # times that the weights are shaken to see how far a model rounds
NOBODY = np.empty(0, dtype=np.int64)
Measure = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
ROUNDED = 8.0  # times what shaking changes: what rounding may explain


@dataclass(frozen=True)
class Found:
    """What the verification of a checkpoint found.

    Args:
        verified: How many probes agree.
        wrong: Parameters whose method is wrong for some probe.
        example: Row of such a probe; -1 where all agree.
    """

    verified: Verified
    wrong: frozenset[str] = frozenset()
    example: int = -1


@dataclass(frozen=True)
class _Other:
    """Numbers of one probe found otherwise, beside the run's own.

    Args:
        row: Of the probe.
        own: Squared norms in the run, ``[P]``.
        other: Those found otherwise.
        losses: Both.
        differing: ``[P]``, which differ by more than rounding.
        loss_differs: Likewise.
        company: Rows of the other batch in which it was measured; none where it was alone.
    """

    row: int
    own: np.ndarray
    other: np.ndarray
    losses: tuple[float, float]
    differing: np.ndarray
    loss_differs: bool
    company: np.ndarray

    @property
    def differs(self) -> bool:
        return self.loss_differs or bool(self.differing.any())

    @property
    def extent(self) -> float:
        """The largest relative difference."""
        largest = np.maximum(self.own, self.other)[self.differing]
        apart = np.abs(self.own - self.other)[self.differing]
        norms = float((apart / largest).max(initial=0.0))
        return max(norms, 1.0 if self.loss_differs else 0.0)


class Verification:
    """Of one checkpoint.

    Args:
        replica: The model, as the run measured it.
        reference: It in float64 where it can.
        plan: By which it was measured.
        loader: Of the probes.
        loss: Of one of them.
        ids: Of the probes, for messages.
        precision: The coarsest inside the replica, and inside the reference.
        size: Of a batch.
    """

    def __init__(
        self,
        replica: Replica,
        reference: Replica,
        plan: Plan,
        loader: ProbeLoader,
        loss: Loss,
        ids: np.ndarray,
        precision: tuple[torch.dtype, torch.dtype],
        size: int,
    ) -> None:
        self._replica = replica
        self._reference = reference
        self._plan = plan
        self._loader = loader
        self._loss = loss
        self._ids = ids
        self._own, self._exact = precision
        self._size = size
        self._floor = rounding_share(self._own)

    def check(
        self,
        seen: Observation,
        measure: Measure,
        seconds: float,
    ) -> Found:
        """Compare the run's numbers of its watched probes.

        Args:
            seen: What the run found of them.
            measure: Gives losses ``[K]`` and squared norms ``[P, K]`` of the probes at some rows,
                measured as one batch.
            seconds: That the run took.

        Raises:
            CheckpointError: the model mixes examples; with the ids of the probes.
        """
        elsewhere = self._elsewhere(seen, measure, seconds)
        alone = self._alone(seen, seconds)
        wrong: set[str] = set()
        example = -1
        suspects = sorted((o for o in (*elsewhere, *alone) if o.differs), key=lambda o: -o.extent)
        for other in suspects[:TRIED]:
            found = self._reason(seen, other)
            if found:
                wrong |= found
                example = other.row
        return Found(Verified(len(alone), len(elsewhere)), frozenset(wrong), example)

    def _elsewhere(self, seen: Observation, measure: Measure, seconds: float) -> list[_Other]:
        found = []
        for company in seen.watched.companies(self._size, seconds):
            losses, norms = measure(company)
            found += [
                self._compared(seen, row, losses[k], norms[:, k], company)
                for k, row in enumerate(company.tolist())
            ]
        return found

    def _alone(self, seen: Observation, seconds: float) -> list[_Other]:
        """As many as the time allows."""
        began = time.perf_counter()
        found: list[_Other] = []
        for row in seen.watched.alone.tolist():
            late = time.perf_counter() - began > SHARE_OF_TIME * seconds
            if len(found) >= AT_LEAST and late:
                break
            examples = self._loader.take(np.array([row]))
            truth = alone(self._reference, *examples, self._loss, self._plan.copies)
            norms = _in_order(seen.names, {n: float(q) for n, q in truth.squared_norms.items()})
            found.append(self._compared(seen, row, float(truth.losses[0]), norms))
        return found

    def _compared(
        self,
        seen: Observation,
        row: int,
        loss: float,
        norms: np.ndarray,
        company: np.ndarray = NOBODY,
    ) -> _Other:
        own_loss, own, network = (values[..., 0] for values in seen.of(np.array([row])))
        allowed = ELSEWHERE[self._own] * np.maximum(own, norms)
        allowed += self._floor * max(float(network), float(norms.sum()))
        differing = np.abs(own - norms) > allowed
        losses = float(own_loss), loss
        return _Other(row, own, norms, losses, differing, _apart(losses, self._own), company)

    def _reason(self, seen: Observation, other: _Other) -> set[str]:
        """Parameters whose method is wrong; none where the difference is the model's own rounding.

        Raises:
            CheckpointError: the model mixes examples.
        """
        measured = [(seen.watched.company(other.row), other.own)]
        if len(other.company):
            measured.append((other.company, other.other))
        for company, norms in measured:
            batch = self._loader.take(company)
            place = int(np.flatnonzero(company == other.row)[0])
            if wrong := self._unlike(seen.names, norms, batch, place):
                return wrong
            if self._mixes(batch, place):
                raise self._mixing(other, company)
        return set()

    def _unlike(
        self, names: Sequence[str], norms: np.ndarray, batch: Examples, place: int
    ) -> set[str]:
        """Parameters whose squared norm is not that of plain autograd in the very batch."""
        _, gradients = beside_others(self._replica, *batch, self._loss, place)
        truth = _in_order(names, {n: squared_norm(g) for n, g in gradients.items()})
        off = np.abs(norms - truth) > RELATIVE[self._own] * truth + self._floor * truth.sum()
        return {name for name, is_off in zip(names, off, strict=True) if is_off}

    def _mixes(self, batch: Examples, place: int) -> bool:
        """Whether the example has other numbers in its batch than alone, but for rounding."""
        model, precision = self._reference, self._exact
        loss, gradients = beside_others(model, *batch, self._loss, place)
        single, lonely = of_one(model, *batch, self._loss, place, self._plan.copies)
        if _apart((loss, single), precision):
            return True
        apart = {
            name: squared_norm(gradients[name] - lonely[name]) ** 0.5
            for name in gradients.keys() & lonely.keys()
        }
        length = {name: squared_norm(gradient) ** 0.5 for name, gradient in lonely.items()}
        network = sum(value**2 for value in length.values()) ** 0.5
        floor = rounding_share(precision) ** 0.5 * network
        off = {n for n, d in apart.items() if d > RELATIVE[precision] * length[n] + floor}
        return bool(off) and not self._rounds_so_far(batch, place, lonely, apart, off)

    def _rounds_so_far(
        self, batch: Examples, place: int, lonely: Gradients, apart: dict[str, float], off: set[str]
    ) -> bool:
        """Whether shaking the weights by one rounding each moves the gradients as far."""
        moved = dict.fromkeys(off, 0.0)
        for seed in range(SHAKES):
            with shaken(self._reference, self._exact, seed):
                _, gradients = of_one(
                    self._reference, *batch, self._loss, place, self._plan.copies, off
                )
            for name in off & gradients.keys():
                change = squared_norm(gradients[name] - lonely[name]) ** 0.5
                moved[name] = max(moved[name], change)
        return all(apart[name] <= ROUNDED * moved[name] for name in off)

    def _mixing(self, other: _Other, company: np.ndarray) -> CheckpointError:
        probe, mates = self._ids[other.row], self._ids[company[company != other.row]]
        return CheckpointError(
            "the model mixes the examples of a batch, so no example has a gradient of its own",
            found=f"probe {probe}: loss {other.losses[0]:.6g} beside probes "
            f"{listed([str(i) for i in mates], 6)}, {other.losses[1]:.6g} without them",
            expected="outputs and gradients that depend on one example each, whatever stands "
            "beside it",
            fix="look for a maximum, mean or sort over the whole batch in forward, and treat "
            "examples apart there: --model FILE.py:FACTORY",
        )


def _in_order(names: Sequence[str], values: dict[str, float]) -> np.ndarray:
    return np.array([values.get(name, 0.0) for name in names])


def _apart(losses: tuple[float, float], precision: torch.dtype) -> bool:
    """Whether two losses differ by more than rounding."""
    scale = max(1.0, *(abs(loss) for loss in losses))
    return not abs(losses[0] - losses[1]) <= LOSSES[precision] * scale


def agreement(alone: int, elsewhere: int) -> str:
    """What the verification of a run proves, in words; empty where nothing was verified.

    By the rule of three: with no failure among ``n`` random probes, the share that is off is below
    ``3 / n`` with 95 % confidence.

    Args:
        alone: Probes that were compared with plain autograd, over all checkpoints.
        elsewhere: Probes that were measured again in other batches.
    """
    if not alone:
        return ""
    agree = (
        f"{alone} of {alone} probes agree with plain autograd alone, and {elsewhere} of "
        f"{elsewhere} with themselves in other batches"
    )
    if alone <= 3:
        return f"{agree}: too few to say how many of all do"
    off = f"fewer than 3/{alone} of the probes are off ({3 / alone:.1%})"
    return f"{agree}: with 95 % confidence {off}"
