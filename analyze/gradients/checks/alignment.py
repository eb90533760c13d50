"""The run's own dot products of gradients and directions, checked at every checkpoint.

Letters: ``V`` directions, ``P`` parameters, ``C`` cells, ``N`` probes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analyze.errors import CheckpointError
from analyze.gradients.checks.precision import ELSEWHERE, RELATIVE, rounding_share
from analyze.gradients.checks.reference import Autograd, Gradients, inner_product, squared_norm
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.measurement import Measurement
from analyze.probes import Cells
from analyze.probes.directions import Direction

Company = Callable[[int], np.ndarray]  # the rows of the batch in which a probe stands
Vectors = Mapping[int, Mapping[str, Tensor]]  # ``[*shape]`` by direction and parameter


def check_sums(
    measured: Measurement,
    directions: Sequence[Direction],
    cells: Cells,
    precision: torch.dtype,
    rounding: frozenset[str],
) -> None:
    """Check that alignments with a sum add up to the products that the Gram matrices hold.

    ``sum_{i in A} g_i . S_B = S_A . S_B`` for each cell A, parameter and direction B, within
    ``rtol |S_B| sqrt(n_A Q_A)``. Parameters that are nothing but ``rounding`` are left out.

    Raises:
        CheckpointError: they do not, so that one of both is wrong.
    """
    if measured.alignment is None or measured.direction_squares is None:
        return
    real = np.array([name not in rounding for name in measured.parameters])
    for v, direction in enumerate(directions):
        if direction.cells is None:
            continue
        found = _over_cells(measured.alignment[v], cells)
        expected = np.nan_to_num(measured.gram[:, :, direction.cells].sum(2))  # 0: never used
        squares = np.nan_to_num(measured.squared_norms) * cells.counts
        scale = np.sqrt(measured.direction_squares[v][:, None] * squares)
        off = np.abs(found - expected) > RELATIVE[precision] * scale
        if (off & real[:, None]).any():
            p, c = np.argwhere(off & real[:, None])[0]
            raise CheckpointError(
                "two ways to one dot product disagree, so that one of them is wrong",
                found=f"the gradients of cell {cells.names[c]} along {direction.name!r} add up to "
                f"{found[p, c]:.9g} in {measured.parameters[p]}, and the product of both sums is "
                f"{expected[p, c]:.9g}",
                expected="the same of both, but for rounding: a second pass over the probes gives "
                "the gradients of the first",
                fix="look for what makes the model another function in its second pass, or "
                "--precision float64",
            )


def _over_cells(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Values ``[P, N]`` added up over each cell, ``[P, C]``."""
    return np.stack([np.bincount(cells.of_probe, row, len(cells)) for row in values])


@dataclass(frozen=True)
class AlignmentCheck:
    """Compares the alignments of some probes with plain autograd."""

    autograd: Autograd  # of the model as the run measured it
    loader: ProbeLoader
    measured: Measurement
    vectors: Vectors

    def wrong(self, rows: np.ndarray, company: Company) -> tuple[set[str], int]:
        """Parameters whose method gave a probe another alignment, and the row of such a probe.

        Each probe is compared alone, and where that differs in its very batch, as its gradient
        may be rounded otherwise there. Cost: a forward and a backward pass for each probe.
        """
        for row in rows.tolist():
            _, alone = self.autograd.of_one(self.loader.take(np.array([row])), 0)
            if not self._off(row, alone, ELSEWHERE):
                continue
            batch = company(row)
            place = int(np.flatnonzero(batch == row)[0])
            _, beside = self.autograd.beside_others(self.loader.take(batch), place)
            if names := self._off(row, beside, RELATIVE):
                return names, row
        return set(), -1

    def _off(
        self, row: int, gradients: Gradients, tolerance: Mapping[torch.dtype, float]
    ) -> set[str]:
        """Parameters in which a probe's alignment is further off than rounding explains."""
        alignment = self.measured.alignment
        assert alignment is not None
        precision = self.autograd.precision
        squares = {name: squared_norm(g) for name, g in gradients.items()}
        floor = (rounding_share(precision) * sum(squares.values())) ** 0.5
        off = set()
        for v, of_parameters in self.vectors.items():
            for p, name in enumerate(self.measured.parameters):
                vector, gradient = of_parameters[name], gradients.get(name)
                expected = 0.0 if gradient is None else inner_product(gradient, vector)
                length = squared_norm(vector) ** 0.5
                allowed = length * (tolerance[precision] * squares.get(name, 0.0) ** 0.5 + floor)
                if abs(alignment[v, p, row] - expected) > allowed:
                    off.add(name)
        return off
