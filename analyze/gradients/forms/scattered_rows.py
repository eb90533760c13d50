"""Rows of a table, added where they were looked up: embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments
from analyze.gradients.device.devices import is_cpu
from analyze.gradients.forms.dots import dot_products_of_pairs
from analyze.gradients.forms.form import Choose, Form
from analyze.gradients.forms.reduction import Summary
from analyze.gradients.forms.squares import squared_norms


@dataclass
class ScatteredRows(Form):
    """``g[n, v] = sum_{t: rows[n, t] = v} dy[n, t]``: embeddings.

    Cost: a sort of ``N*T`` row numbers and ``N*T*D`` additions; no ``[N, V, D]`` is made.
    """

    rows: Tensor  # [N, T], the row of the table that each position looked up
    dy: Tensor  # [N, T, D]; zero where a position gives no gradient (padding)
    table_rows: int  # V; the parameter's shape is [V, D]
    view: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        self.count = self.rows.shape[0]
        self.shape = torch.Size((self.table_rows, self.dy.shape[-1]))
        self.device = self.dy.device

    @property
    def algorithms(self) -> tuple[str, ...]:
        return ("rows",)

    @property
    def key(self) -> str:
        return f"{super().key} at {self.rows.shape[1]}"

    def explicit(self, start: int, stop: int) -> Tensor:
        count = stop - start
        offset = torch.arange(count, device=self.rows.device)[:, None] * self.table_rows
        place = (self.rows[start:stop] + offset).flatten()
        values = _added_at(place, self.dy[start:stop].flatten(0, 1), count * self.table_rows)
        return values.view(count, *self.shape)

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        """``sum_t dy[n, t] . v[d, rows[n, t]]``: the direction is looked up."""
        looked_up = [v.reshape(self.shape)[self.rows] for v in directions]  # [N, T, D] each
        return torch.stack([dot_products_of_pairs(self.dy, v) for v in looked_up])

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        """Add up the positions of one example that looked up the same row, then square."""
        example = torch.arange(self.count, device=self.rows.device)[:, None]  # [N, 1]
        flat = self.dy.flatten(0, 1)  # [N*T, D]
        pairs, place = _distinct((example * self.table_rows + self.rows).flatten())
        sums = _added_at(place, flat, len(pairs))
        per_pair = squared_norms(sums)
        owner = (pairs // self.table_rows).to(per_pair.device)
        norms = _added_at(owner, per_pair, self.count)
        placed = segments.owners(self.rows.device)[:, None] * self.table_rows + self.rows  # [N, T]
        tables = _added_at(placed.flatten(), flat, len(segments) * self.table_rows)
        return Summary(tables.view(len(segments), *self.shape), norms)

    def merged(self, other: Form) -> Form | None:
        if not isinstance(other, ScatteredRows) or other.shape != self.shape:
            return None
        rows, dy = torch.cat((self.rows, other.rows), 1), torch.cat((self.dy, other.dy), 1)
        return ScatteredRows(rows, dy, self.table_rows, self.view)


def _distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ones of ``[M]`` numbers in order, and the place of each number among them.

    How many there are a GPU does not say before all is done: there are M places, of which those
    beyond the distinct ones stand for the first and get nothing.
    """
    if is_cpu(numbers.device):
        distinct, place = torch.unique(numbers, return_inverse=True)
        return distinct, place
    in_order, places = numbers.sort(stable=True)
    begins = in_order.diff(prepend=in_order[:1]) != 0
    rank = begins.cumsum(0)  # of each of those in order
    place = torch.empty_like(rank).scatter_(0, places, rank)
    distinct = in_order[:1].repeat(len(numbers)).scatter_(0, rank, in_order)  # equal ones coincide
    return distinct, place


def _added_at(place: Tensor, values: Tensor, count: int) -> Tensor:
    """``[count, ...]``, at each place the sum of those of ``values`` ``[M, ...]`` that are there.

    In an order that does not depend on time: a GPU's ``index_add_`` adds as its threads get there.
    """
    sums = values.new_zeros(count, *values.shape[1:])
    if is_cpu(values.device):
        return sums.index_add_(0, place, values)
    return sums.index_put_((place,), values, accumulate=True)
