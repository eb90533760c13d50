"""A parameter used several times: its gradients add up, and the cross terms count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments
from analyze.gradients.forms.form import Choose, Form, Summary
from analyze.gradients.forms.outer_products import OuterProducts
from analyze.gradients.forms.placement import Apart, Placed
from analyze.gradients.forms.scattered_rows import ScatteredRows
from analyze.gradients.numbers.float64 import double


def combined(forms: Sequence[Form]) -> Form:
    """One form of the sum of several gradients of one parameter.

    Uses of one kind become one form with more positions; views that share no entry are summed
    apart; all else becomes a ``Sum``.
    """
    if len(forms) == 1:
        return forms[0]
    merged: list[Form] = []
    for form in forms:
        for k, earlier in enumerate(merged):
            together = earlier.merged(form)
            if together is not None:
                merged[k] = together
                break
        else:
            merged.append(form)
    if len(merged) == 1:
        return merged[0]
    placed = [form for form in merged if isinstance(form, Placed)]
    if len(placed) == len(merged) and all(
        a.geometry.disjoint(b.geometry) for a, b in combinations(placed, 2)
    ):
        return Apart(tuple(placed))
    return Sum(tuple(merged))


@dataclass
class Sum(Form):
    """A parameter used in ways of different form, such as an embedding tied to the output layer.

    Cost: ``direct`` makes every example's gradient; ``cross``, for a table that is looked up and
    multiplied with, what its uses cost and ``N*T*T*D`` for their inner products.
    """

    uses: tuple[Form, ...]

    def __post_init__(self) -> None:
        self.count = self.uses[0].count
        self.shape = self.uses[0].shape

    @property
    def algorithms(self) -> tuple[str, ...]:
        pairs = combinations(self.uses, 2)
        return ("direct", "cross") if all(_crossable(a, b) for a, b in pairs) else ("direct",)

    def explicit(self, start: int, stop: int) -> Tensor:
        values = [use.explicit(start, stop) for use in self.uses]
        return reduce(torch.add, [v.reshape(stop - start, *self.shape) for v in values])

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        if algorithm == "cross":
            return self._cross(segments, choose)
        return super()._by(algorithm, segments, choose)

    def _cross(self, segments: Segments, choose: Choose) -> Summary:
        """``|a + b|^2 = |a|^2 + |b|^2 + 2 a.b``, in float64 because the terms may cancel."""
        totals, norms = zip(*(choose(use, segments) for use in self.uses), strict=True)
        squared = reduce(torch.add, norms)
        for a, b in combinations(self.uses, 2):
            rows, outer = (a, b) if isinstance(a, ScatteredRows) else (b, a)
            assert isinstance(rows, ScatteredRows)
            assert isinstance(outer, OuterProducts)
            squared = squared + 2.0 * inner_products(rows, outer)
        return Summary(reduce(torch.add, totals), squared.clamp_min(0.0))

    def _bytes_per_example(self, algorithm: str) -> int:
        return sum(use._bytes_per_example("direct") for use in self.uses)

    def _device_type(self) -> str:
        return self.uses[0]._device_type()


def inner_products(rows: ScatteredRows, outer: OuterProducts) -> Tensor:
    """``sum_{t,t'} (e_t . x_t') dy_t'[row_t]`` for each example, ``[N]`` float64.

    The inner product of ``g[v] = sum_t e_t [row_t = v]`` with ``h[v] = sum_t' dy_t'[v] x_t'``.
    """
    found = []
    for start in range(0, rows.count):
        x, dy = (side[0, 0] for side in outer.factors(start, start + 1))  # [T', D], [T', V]
        e, of_rows = double(rows.dy[start]), double(dy[:, rows.rows[start]])  # [T, D], [T', T]
        found.append(((e @ double(x).T) * of_rows.T).sum())
    return torch.stack(found)


def _crossable(a: Form, b: Form) -> bool:
    """Whether the inner products of two forms are known without making either gradient."""
    rows, outer = (a, b) if isinstance(a, ScatteredRows) else (b, a)
    return (
        isinstance(rows, ScatteredRows)
        and isinstance(outer, OuterProducts)
        and outer.dims[0] == 1
        and outer.dims[2:] == tuple(rows.shape)
    )
