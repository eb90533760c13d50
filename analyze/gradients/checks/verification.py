"""Verification while measuring: the run's numbers of some probes, measured again in another way.

Some probes are measured a second time in another company; some are compared with plain autograd
alone. What differs by more than rounding is tried by plain autograd in the very batch: either the
method is wrong, or the model mixes examples, or it is the model's own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from analyze.errors import CheckpointError, listed
from analyze.gradients.checks.precision import (
    ELSEWHERE,
    RELATIVE,
    losses_agree,
    rounding_share,
    shaken,
)
from analyze.gradients.checks.reference import Autograd, Gradients, squared_norms
from analyze.gradients.data.loader import Examples, ProbeLoader
from analyze.gradients.measurement import Verified
from analyze.gradients.sums.observation import Observation

AT_LEAST = 2  # probes compared with plain autograd at each checkpoint
AT_MOST = 64
SHARE_OF_WORK = 0.015  # of the measurement, for more of them
TRIED = 4  # probes that differ of which the reason is looked for, those that differ most
SHAKES = 4  # times that the weights are shaken to see how far a model rounds
NOBODY = np.empty(0, dtype=np.int64)
MeasureBatch = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
ROUNDED = 8.0  # times what shaking changes: what rounding may explain


@dataclass(frozen=True)
class ExpectedSeconds:
    """What the work takes by its cost: no clock, or each run would verify other probes."""

    measurement: float  # of all probes
    alone: float  # of one probe, by plain autograd

    @property
    def probes_alone(self) -> int:
        """How many probes are compared with plain autograd alone."""
        bought = int(SHARE_OF_WORK * self.measurement / self.alone)
        return max(AT_LEAST, min(AT_MOST, bought))


@dataclass(frozen=True)
class Verification:
    """What the verification of a checkpoint showed."""

    verified: Verified  # how many probes agree
    wrong: frozenset[str] = frozenset()  # parameters whose method is wrong for some probe
    example: int = -1  # the row of such a probe; -1 where all agree


@dataclass(frozen=True)
class _Comparison:
    """The run's numbers of one probe beside those measured in another way."""

    row: int
    norms: np.ndarray  # [P], squared norms in the run
    others: np.ndarray  # squared norms measured in another way
    losses: tuple[float, float]  # in the run, and in the other way
    differing: np.ndarray  # [P], whether they differ by more than rounding
    loss_differs: bool
    company: np.ndarray  # rows of the other batch that it was in; empty where it was alone

    @property
    def extent(self) -> float:
        """The largest relative difference; 0 where none is more than rounding."""
        largest = np.maximum(self.norms, self.others)[self.differing]
        apart = np.abs(self.norms - self.others)[self.differing]
        relative = float((apart / largest).max(initial=0.0))
        return max(relative, 1.0 if self.loss_differs else 0.0)


@dataclass(frozen=True)
class Verifier:
    """Compares the numbers of one checkpoint's watched probes with others."""

    measured: Autograd  # of the model as the run measured it
    truth: Callable[[], Autograd]  # gives that of the reference, if it is needed
    loader: ProbeLoader
    ids: np.ndarray  # of the probes, for messages
    size: int  # of a batch

    @property
    def _floor(self) -> float:
        """Share of the network's squared gradient that may be rounding."""
        return rounding_share(self.measured.precision)

    def check(
        self, seen: Observation, measure: MeasureBatch, expected: ExpectedSeconds
    ) -> Verification:
        """Compare the run's numbers of its watched probes with others.

        ``measure`` gives losses ``[K]`` and squared norms ``[P, K]`` of the probes at some rows,
        measured as one batch. What is ``expected`` of the work decides how many probes there are.

        Raises:
            CheckpointError: the model mixes examples; with the ids of the probes.
        """
        elsewhere = self._elsewhere(seen, measure, expected.measurement)
        alone = self._alone(seen, expected.probes_alone)
        wrong: set[str] = set()
        example = -1
        suspects = sorted((c for c in (*elsewhere, *alone) if c.extent), key=lambda c: -c.extent)
        for suspect in suspects[:TRIED]:
            if names := self._reason(seen, suspect):
                wrong |= names
                example = suspect.row
        return Verification(Verified(len(alone), len(elsewhere)), frozenset(wrong), example)

    def _elsewhere(
        self, seen: Observation, measure: MeasureBatch, seconds: float
    ) -> list[_Comparison]:
        compared = []
        for company in seen.watched.companies(self.size, seconds):
            losses, norms = measure(company)
            compared += [
                self._compared(seen, row, losses[k], norms[:, k], company)
                for k, row in enumerate(company.tolist())
            ]
        return compared

    def _alone(self, seen: Observation, count: int) -> list[_Comparison]:
        """Comparisons of some probes with plain autograd alone."""
        rows = seen.watched.alone[:count]
        alone = self.measured.alone(self.loader.take(rows), summed=False)
        zero = torch.zeros_like(alone.losses)
        norms = np.array([alone.squared_norms.get(name, zero).numpy() for name in seen.names])
        losses = alone.losses.tolist()
        return [
            self._compared(seen, row, losses[k], norms[:, k]) for k, row in enumerate(rows.tolist())
        ]

    def _compared(
        self,
        seen: Observation,
        row: int,
        loss: float,
        others: np.ndarray,
        company: np.ndarray = NOBODY,
    ) -> _Comparison:
        run_loss, norms, network = (values[..., 0] for values in seen.of(np.array([row])))
        allowed = ELSEWHERE[self.measured.precision] * np.maximum(norms, others)
        allowed += self._floor * max(float(network), float(others.sum()))
        differing = np.abs(norms - others) > allowed
        losses = float(run_loss), loss
        loss_differs = not losses_agree(*losses, self.measured.precision)
        return _Comparison(row, norms, others, losses, differing, loss_differs, company)

    def _reason(self, seen: Observation, suspect: _Comparison) -> set[str]:
        """Parameters whose method is wrong; none where the difference is the model's own rounding.

        Raises:
            CheckpointError: the model mixes examples.
        """
        measured = [(seen.watched.company(suspect.row), suspect.norms)]
        if len(suspect.company):
            measured.append((suspect.company, suspect.others))
        for company, norms in measured:
            batch = self.loader.take(company)
            place = int(np.flatnonzero(company == suspect.row)[0])
            if wrong := self._unlike(seen, norms, batch, place):
                self._refuse_disturbed_mates(company, batch, place)
                return wrong
            if self._mixes(batch, place):
                raise self._mixing(suspect, company)
        return set()

    def _unlike(
        self, seen: Observation, norms: np.ndarray, batch: Examples, place: int
    ) -> set[str]:
        """Parameters whose squared norm is not that of plain autograd in the very batch."""
        truth = _norms(seen, self.measured.beside_others(batch, place)[1])
        rtol = RELATIVE[self.measured.precision]
        off = np.abs(norms - truth) > rtol * truth + self._floor * truth.sum()
        return {name for name, is_off in zip(seen.names, off, strict=True) if is_off}

    def _mixes(self, batch: Examples, place: int) -> bool:
        """Whether the example has other numbers in its batch than alone, but for rounding."""
        truth = replace(self.truth(), copies=self.measured.copies)
        precision = truth.precision
        loss, gradients = truth.beside_others(batch, place)
        single, lonely = truth.of_one(batch, place)
        if not losses_agree(loss, single, precision):
            return True
        both = gradients.keys() & lonely.keys()
        apart = _lengths((name, gradients[name] - lonely[name]) for name in both)
        length = _lengths(lonely.items())
        network = sum(value**2 for value in length.values()) ** 0.5
        floor = rounding_share(precision) ** 0.5 * network
        off = {n: d for n, d in apart.items() if d > RELATIVE[precision] * length[n] + floor}
        return bool(off) and not _rounds_so_far(truth, batch, place, lonely, off)

    def _refuse_disturbed_mates(self, company: np.ndarray, batch: Examples, place: int) -> None:
        """Refuse a batch in which a mate's loss changes with the example at a place.

        Then the mate's loss has a gradient at the example's rows, and that is what a rule adds to
        the example's own. A fallback would not see it, and hide the mate's mixing.

        Raises:
            CheckpointError: the model mixes examples.

        Cost: two forward passes of the batch.
        """
        rows = torch.arange(len(company))
        rows[place] = (place + 1) % len(company)
        truth = self.truth()
        before, _ = truth.together(batch, names=())
        replaced = Examples(batch.inputs.take(rows), batch.targets[rows])
        after, _ = truth.together(replaced, names=())
        for mate in np.flatnonzero(np.arange(len(company)) != place).tolist():
            if not losses_agree(after[mate], before[mate], truth.precision):
                raise _mixing(
                    f"probe {self.ids[company[mate]]}: loss {before[mate]:.6g} beside probe "
                    f"{self.ids[company[place]]}, {after[mate]:.6g} with another in its place"
                )

    def _mixing(self, suspect: _Comparison, company: np.ndarray) -> CheckpointError:
        probe, mates = self.ids[suspect.row], self.ids[company[company != suspect.row]]
        return _mixing(
            f"probe {probe}: loss {suspect.losses[0]:.6g} beside probes "
            f"{listed([str(i) for i in mates])}, {suspect.losses[1]:.6g} without them"
        )


def _mixing(found: str) -> CheckpointError:
    return CheckpointError(
        "the model mixes the examples of a batch, so no example has a gradient of its own",
        found=found,
        expected="outputs and gradients that depend on one example each, whatever stands beside it",
        fix="look for a maximum, mean or sort over the whole batch in forward, and treat "
        "examples apart there: --model FILE.py:FACTORY",
    )


def _rounds_so_far(
    truth: Autograd, batch: Examples, place: int, lonely: Gradients, apart: dict[str, float]
) -> bool:
    """Whether shaking the weights by one rounding each moves the gradients as far."""
    moved = dict.fromkeys(apart, 0.0)
    for seed in range(SHAKES):
        with shaken(truth.replica, truth.precision, seed):
            _, gradients = truth.of_one(batch, place, apart.keys())
        both = apart.keys() & gradients.keys()
        for name, change in _lengths((n, gradients[n] - lonely[n]) for n in both).items():
            moved[name] = max(moved[name], change)
    return all(distance <= ROUNDED * moved[name] for name, distance in apart.items())


def _norms(seen: Observation, gradients: Gradients) -> np.ndarray:
    """Squared norms ``[P]`` of some gradients, 0 for those that are not there."""
    squares = squared_norms(gradients.items())
    return np.array([squares.get(name, 0.0) for name in seen.names])


def _lengths(gradients: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    return {name: square**0.5 for name, square in squared_norms(gradients).items()}
