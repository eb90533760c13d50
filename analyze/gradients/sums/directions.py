"""Directions as vectors in the space of the weights, and examples' gradients along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.gradients.data.batches import Batch
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import as_real, double
from analyze.gradients.step.along import Along
from analyze.gradients.step.result import BatchResult, TakeTotals
from analyze.gradients.sums.cell_sums import CellSums
from analyze.probes.directions import UPDATE, WEIGHTS, Direction

Vectors = dict[str, Tensor]  # [D, *shape] by parameter


@dataclass(frozen=True)
class Weights:
    """Weights by name, as a checkpoint has them: passes of some models write to theirs."""

    own: Mapping[str, Tensor] = field(default_factory=dict)
    following: Mapping[str, Tensor] | None = None  # of the next checkpoint, if it is known

    @classmethod
    def of(cls, model: nn.Module, following: Mapping[str, Tensor] | None) -> Weights:
        """Those of a model, which stay as they are now; what is yet to be made has none."""
        named = {n: p.detach().clone() for n, p in model.named_parameters() if not is_lazy(p)}
        return cls(named, following)


def known_before(
    directions: Sequence[Direction], replica: Replica, weights: Weights
) -> dict[int, Vectors]:
    """The vectors of ``update`` and ``weights``, ``[*shape]``, by the number of the direction.

    Without weights of a next checkpoint there is no update. It is worked out in float64, as most
    digits of the two cancel.
    """
    own = {n: weights.own.get(n, p).detach() for n, p in replica.parameters.items()}
    found: dict[int, Vectors] = {}
    for number, direction in enumerate(directions):
        if direction.name == WEIGHTS:
            found[number] = {n: own[n].to(p.detach()) for n, p in replica.parameters.items()}
        elif direction.name == UPDATE and weights.following is not None:
            after = weights.following
            found[number] = {
                name: _difference(after[name], own[name]).to(parameter.detach())
                for name, parameter in replica.parameters.items()
            }
    return found


def sums_of_cells(
    directions: Sequence[Direction], sums: CellSums, replica: Replica
) -> dict[int, Vectors]:
    """The gradient sums of the directions' cells, ``[*shape]``, by the number of the direction.

    A parameter without a gradient has a direction of zeros.
    """
    return {
        number: {
            name: sums.added_up(name, direction.cells, parameter.detach())
            for name, parameter in replica.parameters.items()
        }
        for number, direction in enumerate(directions)
        if direction.cells is not None
    }


def together(vectors: Mapping[int, Vectors], *, alone: bool) -> Along:
    """Several directions as one, in the order of their numbers."""
    of_each = list(vectors.values())
    names = of_each[0].keys()
    return Along.scaled({n: torch.stack([v[n] for v in of_each]) for n in names}, alone=alone)


def _difference(after: Tensor, before: Tensor) -> Tensor:
    """``after - before`` in float64 on the CPU."""
    wide = torch.promote_types(before.dtype, torch.float64)
    return after.detach().cpu().to(wide) - before.cpu().to(wide)


def _nothing(name: str, totals: Tensor, unscale: Tensor) -> None:
    """Take totals that nobody asked for."""


class Alignments:
    """Dot products of N probes' gradients with V directions, in each of P parameters.

    ``values`` is ``[V, P, N]`` and ``squares`` ``[V, P]``, the directions' squared norms; NaN for
    directions that there are none of.
    """

    def __init__(self, directions: int, names: Sequence[str], probes: int) -> None:
        self.values = np.full((directions, len(names), probes), np.nan)
        self.squares = np.full((directions, len(names)), np.nan)
        self._names = tuple(names)

    def begin(self, vectors: Mapping[int, Vectors]) -> None:
        """Make room for directions, which the batches are measured along next."""
        for number, of_parameters in vectors.items():
            self.values[number] = 0.0
            norms = [double(as_real(of_parameters[n])).square().sum() for n in self._names]
            self.squares[number] = torch.stack(norms).cpu().numpy() if norms else 0.0

    def add(self, numbers: Sequence[int], batch: Batch, result: BatchResult) -> None:
        """Add what a batch gave along the directions of these numbers."""
        for place, name in enumerate(self._names):
            if name in result.all_dots:
                dots = result.all_dots[name].numpy()
                for number, values in zip(numbers, dots, strict=True):
                    self.values[number, place, batch.rows] = values


class SecondPass:
    """Adds up batches that are measured along directions and for nothing else."""

    def __init__(self, alignments: Alignments, vectors: Mapping[int, Vectors]) -> None:
        alignments.begin(vectors)
        self._alignments = alignments
        self._numbers = list(vectors)

    def taking(self, batch: Batch) -> TakeTotals:
        """A function for totals, of which none come."""
        return _nothing

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add what a batch gave."""
        self._alignments.add(self._numbers, batch, result)

    def finish(self) -> None:
        """Nothing is left to be written."""
