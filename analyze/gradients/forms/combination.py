"""A parameter used several times: its gradients add up, and the cross terms count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments
from analyze.gradients.device import float64
from analyze.gradients.forms.doubts import Norms, is_looked_at_later
from analyze.gradients.forms.form import Choose, Form
from analyze.gradients.forms.grams import CANCELLING, SMALLEST
from analyze.gradients.forms.outer_products import OuterProducts
from analyze.gradients.forms.placement import Placed
from analyze.gradients.forms.reduction import Summary
from analyze.gradients.forms.scattered_rows import ScatteredRows
from analyze.gradients.numbers import double


def combined(forms: Sequence[Form]) -> Form:
    """The form of the sum of several gradients of one parameter.

    Uses of one kind become one form with more positions; all else becomes a ``Sum``.
    """
    merged: list[Form] = []
    for form in forms:
        for k, earlier in enumerate(merged):
            together = earlier.merged(form)
            if together is not None:
                merged[k] = together
                break
        else:
            merged.append(form)
    return merged[0] if len(merged) == 1 else Sum(tuple(merged))


@dataclass
class Sum(Form):
    """A parameter used in ways of different form, such as an embedding tied to the output layer.

    Cost: ``direct`` makes every example's gradient; ``cross``, for a table that is looked up and
    multiplied with, what its uses cost and ``N*T*T*D`` for their inner products; ``apart``, for
    views that share no entry, what its uses cost.
    """

    uses: tuple[Form, ...]

    def __post_init__(self) -> None:
        self.count, self.shape = self.uses[0].count, self.uses[0].shape
        self.device = self.uses[0].device

    @property
    def algorithms(self) -> tuple[str, ...]:
        pairs = [*combinations(self.uses, 2)]
        if all(_apart(a, b) for a, b in pairs):
            return ("apart",)
        return ("direct", "cross") if all(_crossable(a, b) for a, b in pairs) else ("direct",)

    @property
    def key(self) -> str:
        return " + ".join([f"Sum {list(self.shape)}", *(use.key for use in self.uses)])

    def explicit(self, start: int, stop: int) -> Tensor:
        values = [use.explicit(start, stop) for use in self.uses]
        return reduce(torch.add, [v.reshape(stop - start, *self.shape) for v in values])

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        shaped = [directions.reshape(len(directions), *use.shape) for use in self.uses]
        return reduce(torch.add, [u.dots(v) for u, v in zip(self.uses, shaped, strict=True)])

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        """Summary by ``|a + b|^2 = |a|^2 + |b|^2 + 2 a.b``, whose terms may cancel."""
        if algorithm == "direct":
            return super()._by(algorithm, segments, choose)
        found = [choose(use, segments) for use in self.uses]
        totals = reduce(torch.add, [summary.totals for summary in found])
        norms = reduce(_apart_from, [Norms(s.squared_norms, s.unsure) for s in found])
        return Summary(totals, *(self._crossed(norms) if algorithm == "cross" else norms))

    def _crossed(self, apart: Norms) -> Norms:
        """``|a + b|^2`` from ``|a|^2 + |b|^2``; where the terms cancel, by the gradients."""
        rows, outer = _rows_first(*self.uses)
        products, negligible = inner_products(rows, outer)
        squares = (apart.squares + 2.0 * products).clamp_min_(0.0)
        sure = (squares >= CANCELLING * apart.squares) & (apart.squares >= negligible)
        unsure = ~(sure & (squares < math.inf))
        if apart.unsure is not None:
            unsure |= apart.unsure
        if is_looked_at_later(squares):
            return Norms(squares, unsure)
        if examples := unsure.nonzero().flatten().tolist():
            squares[examples] = self.certain(examples)
        return Norms(squares)

    def _bytes_per_example(self, algorithm: str) -> int:
        return sum(use._bytes_per_example("direct") for use in self.uses)


def inner_products(rows: ScatteredRows, outer: OuterProducts) -> tuple[Tensor, Tensor]:
    """``sum_{t,t'} (e_t . x_t') dy_t'[row_t]`` for each example, ``[N]`` float64.

    The inner product of ``g[v] = sum_t e_t [row_t = v]`` with ``h[v] = sum_t' dy_t'[v] x_t'``.
    And the sum of squares of both from which on what may be lost is negligible, ``[N]`` or 0: where
    float64 is dear, float32 has no room for very small products, which ``dy`` may make large again.
    """
    in_float32 = rows.dy.dtype == torch.float32 and float64.is_dear(rows.device)
    products, largest = [], []
    for n in range(rows.count):
        x, dy = (side[0, 0] for side in outer.factors(n, n + 1))  # [T', D], [T', V]
        factors = rows.dy[n], x, dy[:, rows.rows[n]]  # [T, D], [T', D], [T', T]
        e, x, of_rows = factors if in_float32 else map(double, factors)
        terms = (e @ x.T) * of_rows.T
        products.append(double(terms.sum(1)).sum())
        if in_float32:
            largest.append(double(of_rows.abs().amax()))
    together = torch.stack(products)
    if not in_float32:
        return together, together.new_zeros(())
    return together, SMALLEST * (1.0 + torch.stack(largest))


def _apart_from(a: Norms, b: Norms) -> Norms:
    """The norms of sums of gradients that are orthogonal."""
    if a.unsure is None or b.unsure is None:
        return Norms(a.squares + b.squares, b.unsure if a.unsure is None else a.unsure)
    return Norms(a.squares + b.squares, a.unsure | b.unsure)


def _rows_first(a: Form, b: Form) -> tuple[Any, Any]:
    return (a, b) if isinstance(a, ScatteredRows) else (b, a)


def _apart(a: Form, b: Form) -> bool:
    """Whether two forms are of views that share no entry."""
    return isinstance(a, Placed) and isinstance(b, Placed) and a.geometry.disjoint(b.geometry)


def _crossable(a: Form, b: Form) -> bool:
    """Whether the inner products of two forms are known without making either gradient."""
    rows, outer = _rows_first(a, b)
    return (
        isinstance(rows, ScatteredRows)
        and isinstance(outer, OuterProducts)
        and outer.dims[0] == 1
        and outer.dims[2:] == tuple(rows.shape)
    )
