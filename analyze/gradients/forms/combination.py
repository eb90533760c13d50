"""A parameter used several times: its gradients add up, and the cross terms count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments
from analyze.gradients.forms.form import Choose, Form
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
        totals, norms, doubts = zip(*found, strict=True)
        squared = reduce(torch.add, norms)
        if algorithm == "cross":
            for a, b in combinations(self.uses, 2):
                squared = squared + 2.0 * inner_products(*_rows_first(a, b))
            squared = squared.clamp_min(0.0)
        unsure = [doubt for doubt in doubts if doubt is not None]
        anywhere = reduce(torch.logical_or, unsure) if unsure else None
        return Summary(reduce(torch.add, totals), squared, anywhere)

    def _bytes_per_example(self, algorithm: str) -> int:
        return sum(use._bytes_per_example("direct") for use in self.uses)


def inner_products(rows: ScatteredRows, outer: OuterProducts) -> Tensor:
    """``sum_{t,t'} (e_t . x_t') dy_t'[row_t]`` for each example, ``[N]`` float64.

    The inner product of ``g[v] = sum_t e_t [row_t = v]`` with ``h[v] = sum_t' dy_t'[v] x_t'``.
    """
    products = []
    for n in range(rows.count):
        x, dy = (side[0, 0] for side in outer.factors(n, n + 1))  # [T', D], [T', V]
        e, of_rows = double(rows.dy[n]), double(dy[:, rows.rows[n]])  # [T, D], [T', T]
        products.append(((e @ double(x).T) * of_rows.T).sum())
    return torch.stack(products)


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
