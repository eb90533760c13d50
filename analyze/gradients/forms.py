"""Per-example gradients of one parameter, in the form that is cheapest to hold.

A rule says what a call's per-example gradients are made of; a form turns that into what is kept:
their sum over the examples and the squared norm of each. Forms add up, so that a parameter used
several times (tied weights, a layer called twice) gets its cross terms.

Letters: ``N`` examples, ``G`` groups, ``T`` positions of one example, ``K`` inputs and ``O``
outputs of a group, ``D`` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Per-example gradients made at a time: few enough to stay in a CPU's cache, or to fill a GPU.
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20, "mps": 64 << 20}


class Summary(NamedTuple):
    """What is kept of the per-example gradients of one parameter over one batch."""

    total: Tensor  # their sum, in the parameter's shape
    squared_norms: Tensor  # [N], float64


def squared_norms(values: Tensor) -> Tensor:
    """``sum values[n]**2`` for each n, ``[N, ...]`` to ``[N]``, accumulated in float64."""
    if values.device.type == "mps":  # MPS has no float64
        values = values.cpu()
    return torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64).square()


class Form:
    """Per-example gradients ``[N, *shape]`` that need not exist all at once.

    Subclasses give ``count`` (N), ``shape`` and ``explicit``; those that know a cheaper way to
    the summary than making every gradient name it in ``algorithms``.
    """

    count: int
    shape: torch.Size

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Exact ways to the summary; the fastest is found by timing."""
        return ("direct",)

    @property
    def key(self) -> str:
        """Calls with equal keys cost the same per example, so that one timing holds for all."""
        return f"{type(self).__name__} {list(self.shape)}"

    def explicit(self, start: int, stop: int) -> Tensor:
        """The gradients of examples ``start`` to ``stop``: ``[stop - start, *shape]``."""
        raise TypeError(f"{type(self).__name__} has no explicit gradients")

    def summarise(self, algorithm: str = "direct") -> Summary:
        """The sum over examples and each example's squared norm, by the named algorithm."""
        if algorithm not in self.algorithms:
            raise ValueError(f"{type(self).__name__} has no algorithm {algorithm!r}")
        return getattr(self, f"_{algorithm}")()

    def _direct(self) -> Summary:
        """Make the gradients a chunk at a time, square and add them on the fly."""
        total: Tensor | None = None
        norms = []
        for start, stop in self._chunks():
            values = self.explicit(start, stop)  # [n, *shape]
            norms.append(squared_norms(values))
            part = values.sum(0)
            total = part if total is None else total.add_(part)
        assert total is not None
        return Summary(total, torch.cat(norms))

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of examples whose gradients fit into ``CHUNK_BYTES``."""
        budget = CHUNK_BYTES.get(self._device_type(), CHUNK_BYTES["cpu"])
        step = max(1, budget // max(1, self._bytes_per_example()))
        for start in range(0, self.count, step):
            yield start, min(start + step, self.count)

    def _bytes_per_example(self) -> int:
        return 4 * self.shape.numel()

    def _device_type(self) -> str:
        return "cpu"

    def __add__(self, other: Form) -> Form:
        return Sum((self, other))


@dataclass
class Explicit(Form):
    """Gradients that are small enough to hold, ``values`` ``[N, *shape]``: biases, norm scales."""

    values: Tensor

    def __post_init__(self) -> None:
        self.count = self.values.shape[0]
        self.shape = self.values.shape[1:]

    def explicit(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop]

    def _direct(self) -> Summary:
        return Summary(self.values.sum(0), squared_norms(self.values))

    def __add__(self, other: Form) -> Form:
        return Explicit(self.values + other.explicit(0, other.count))


@dataclass
class OuterProducts(Form):
    """``g[n, go, k] = sum_t dy[n, g, t, o] x[n, g, t, k]``: linear layers and convolutions.

    Args:
        count: N.
        shape: Of the parameter; ``G * O * K`` values in this order.
        dims: ``(G, T, O, K)``.
        factors: Gives ``x`` ``[n, G, T, K]`` and ``dy`` ``[n, G, T, O]`` of a range of examples;
            for a convolution this unfolds, so it is asked for a chunk at a time.
        batch_sum: Gives the ordinary weight gradient, the sum over examples, in ``shape``.
        like: Any tensor of the call, for its device and dtype.

    Cost, in multiply-adds beyond the ordinary weight gradient ``N*G*T*O*K``: ``direct`` none (it
    replaces it), ``gram`` ``N*G*T*T*(O + K)``, in float64 because its terms may cancel.
    """

    count: int
    shape: torch.Size
    dims: tuple[int, int, int, int]
    factors: Callable[[int, int], tuple[Tensor, Tensor]]
    batch_sum: Callable[[], Tensor]
    like: Tensor

    @property
    def algorithms(self) -> tuple[str, ...]:
        groups, positions, outputs, inputs = self.dims
        gram = positions * (outputs + inputs) * 4  # float64 and a second pass: about 4 times dearer
        if gram > 8 * outputs * inputs or self.like.device.type == "mps":
            return ("direct",)
        return ("gram",) if positions == 1 and groups == 1 else ("direct", "gram")

    @property
    def key(self) -> str:
        dims = "x".join(map(str, self.dims))
        return f"outer products {dims}"

    def explicit(self, start: int, stop: int) -> Tensor:
        x, dy = self.factors(start, stop)
        return (dy.transpose(-1, -2) @ x).reshape(stop - start, *self.shape)  # [n, *shape]

    def _gram(self) -> Summary:
        """``q[n] = sum_{t,t'} (x_t . x_t') (dy_t . dy_t')``, summed over the groups.

        In float64: where the terms cancel (a bias-like direction before a norm layer), float32
        would leave an error of 1e-7 of the terms, while ``direct`` leaves 1e-14.
        """
        norms = []
        for start, stop in self._chunks():
            x, dy = (f.double() for f in self.factors(start, stop))  # [n, G, T, K], [n, G, T, O]
            if self.dims[1] == 1:
                q = x.square().sum((2, 3)) * dy.square().sum((2, 3))  # [n, G]
            else:
                q = ((x @ x.transpose(2, 3)) * (dy @ dy.transpose(2, 3))).sum((2, 3))  # [n, G]
            norms.append(q.sum(1).clamp_min(0.0))
        return Summary(self.batch_sum(), torch.cat(norms))

    def _bytes_per_example(self) -> int:
        groups, positions, outputs, inputs = self.dims
        return 4 * groups * max(outputs * inputs, positions * (outputs + inputs))

    def _device_type(self) -> str:
        return self.like.device.type

    def __add__(self, other: Form) -> Form:
        """The same parameter used twice: its positions are those of both uses."""
        if not isinstance(other, OuterProducts) or other.shape != self.shape:
            return Sum((self, other))
        groups, positions, outputs, inputs = self.dims
        if (other.dims[0], other.dims[2], other.dims[3]) != (groups, outputs, inputs):
            return Sum((self, other))

        def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
            (x, dy), (x2, dy2) = self.factors(start, stop), other.factors(start, stop)
            return torch.cat((x, x2), 2), torch.cat((dy, dy2), 2)

        return OuterProducts(
            self.count,
            self.shape,
            (groups, positions + other.dims[1], outputs, inputs),
            factors,
            lambda: self.batch_sum() + other.batch_sum(),
            self.like,
        )


@dataclass
class ScatteredRows(Form):
    """``g[n, v] = sum_{t: rows[n, t] = v} dy[n, t]``: embeddings.

    Args:
        rows: ``[N, T]``, the row of the table that each position looked up.
        dy: ``[N, T, D]``; zero where a position gives no gradient (padding).
        table_rows: Rows of the table, V; the parameter's shape is ``[V, D]``.

    Cost: a sort of ``N*T`` row numbers and ``N*T*D`` additions; no ``[N, V, D]`` is made.
    """

    rows: Tensor
    dy: Tensor
    table_rows: int

    def __post_init__(self) -> None:
        self.count = self.rows.shape[0]
        self.shape = torch.Size((self.table_rows, self.dy.shape[-1]))

    @property
    def algorithms(self) -> tuple[str, ...]:
        return ("rows",)

    def explicit(self, start: int, stop: int) -> Tensor:
        count = stop - start
        offset = torch.arange(count, device=self.rows.device)[:, None] * self.table_rows
        values = self.dy.new_zeros(count * self.table_rows, self.dy.shape[-1])
        values.index_add_(
            0, (self.rows[start:stop] + offset).flatten(), self.dy[start:stop].flatten(0, 1)
        )
        return values.view(count, *self.shape)

    def _rows(self) -> Summary:
        """Add up the positions of one example that looked up the same row, then square."""
        example = torch.arange(self.count, device=self.rows.device)[:, None]  # [N, 1]
        flat = self.dy.flatten(0, 1)  # [N*T, D]
        pairs, place = torch.unique(example * self.table_rows + self.rows, return_inverse=True)
        sums = flat.new_zeros(len(pairs), flat.shape[1]).index_add_(0, place.flatten(), flat)
        per_pair = squared_norms(sums)
        owner = (pairs // self.table_rows).to(per_pair.device)
        norms = per_pair.new_zeros(self.count).index_add_(0, owner, per_pair)
        total = flat.new_zeros(self.shape).index_add_(0, self.rows.flatten(), flat)
        return Summary(total, norms)

    def _device_type(self) -> str:
        return self.dy.device.type

    def __add__(self, other: Form) -> Form:
        if not isinstance(other, ScatteredRows):
            return Sum((self, other))
        rows, dy = torch.cat((self.rows, other.rows), 1), torch.cat((self.dy, other.dy), 1)
        return ScatteredRows(rows, dy, self.table_rows)


@dataclass
class Sum(Form):
    """A parameter used in ways of different form, such as an embedding tied to the output layer."""

    parts: tuple[Form, ...]

    def __post_init__(self) -> None:
        self.count = self.parts[0].count
        self.shape = self.parts[0].shape

    def explicit(self, start: int, stop: int) -> Tensor:
        values = [part.explicit(start, stop) for part in self.parts]
        return torch.stack([v.reshape(stop - start, *self.shape) for v in values]).sum(0)

    def _bytes_per_example(self) -> int:
        return sum(part._bytes_per_example() for part in self.parts)

    def _device_type(self) -> str:
        return self.parts[0]._device_type()
