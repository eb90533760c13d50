"""Rows of a table, added where they were looked up: embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments
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
        values = self.dy.new_zeros(count * self.table_rows, self.dy.shape[-1])
        values.index_add_(
            0, (self.rows[start:stop] + offset).flatten(), self.dy[start:stop].flatten(0, 1)
        )
        return values.view(count, *self.shape)

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        """``sum_t dy[n, t] . v[d, rows[n, t]]``: the direction is looked up."""
        looked_up = [v.reshape(self.shape)[self.rows] for v in directions]  # [N, T, D] each
        return torch.stack([dot_products_of_pairs(self.dy, v) for v in looked_up])

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        """Add up the positions of one example that looked up the same row, then square."""
        example = torch.arange(self.count, device=self.rows.device)[:, None]  # [N, 1]
        flat = self.dy.flatten(0, 1)  # [N*T, D]
        pairs, place = torch.unique(example * self.table_rows + self.rows, return_inverse=True)
        sums = flat.new_zeros(len(pairs), flat.shape[1]).index_add_(0, place.flatten(), flat)
        per_pair = squared_norms(sums)
        owner = (pairs // self.table_rows).to(per_pair.device)
        norms = per_pair.new_zeros(self.count).index_add_(0, owner, per_pair)
        placed = segments.owners(self.rows.device)[:, None] * self.table_rows + self.rows  # [N, T]
        tables = flat.new_zeros(len(segments) * self.table_rows, flat.shape[1])
        tables.index_add_(0, placed.flatten(), flat)
        return Summary(tables.view(len(segments), *self.shape), norms)

    def merged(self, other: Form) -> Form | None:
        if not isinstance(other, ScatteredRows) or other.shape != self.shape:
            return None
        rows, dy = torch.cat((self.rows, other.rows), 1), torch.cat((self.dy, other.dy), 1)
        return ScatteredRows(rows, dy, self.table_rows, self.view)
