"""Gradients of a part of a parameter, and of what was computed from it, taken back to it.

A call may use a slice of a packed projection, a transposed table, a normalised weight, the sum of
a weight and a low-rank product. Its form is that of the tensor at the call; ``Placed`` and
``PulledBack`` turn it into one of the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.errors import out_of_memory
from analyze.gradients.data.segments import Segments
from analyze.gradients.forms.form import Choose, Form
from analyze.gradients.forms.reduction import Summary


class Geometry(NamedTuple):
    """Where a view lies in the parameter's storage, as ``as_strided`` takes it."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: Tensor, parameter: Tensor) -> Geometry | None:
        """Where ``tensor`` lies in ``parameter``; None if no view, or one with an entry twice.

        A conjugate, and the real parts of a complex parameter, are other numbers.
        """
        if tensor.untyped_storage().data_ptr() != parameter.untyped_storage().data_ptr():
            return None
        if _reading(tensor) != _reading(parameter):
            return None
        offset = int(tensor.storage_offset()) - int(parameter.storage_offset())
        geometry = cls(tuple(tensor.shape), tensor.stride(), offset)
        return geometry if geometry._nested and tensor.numel() else None

    def whole(self, parameter: Tensor) -> bool:
        """Whether this is the parameter itself, not a part of it or its entries in other order."""
        return (self.size, self.stride) == (tuple(parameter.shape), parameter.stride())

    @cache  # noqa: B019 - few, small, and asked for in every batch
    def disjoint(self, other: Geometry) -> bool:
        """Whether two views of one parameter share no entry."""
        if self.last < other.offset or other.last < self.offset:
            return True
        shown = torch.zeros(max(self.last, other.last) + 1, dtype=torch.bool)
        shown.as_strided(*self).fill_(True)
        return not bool(shown.as_strided(*other).any())

    @property
    def last(self) -> int:
        """The largest position in the storage."""
        steps = zip(self.size, self.stride, strict=True)
        return self.offset + sum((n - 1) * step for n, step in steps)

    @property
    def _nested(self) -> bool:
        """Whether each stride is longer than all that shorter strides reach: no entry twice."""
        reach = 0
        for stride, size in sorted(zip(self.stride, self.size, strict=True)):
            if size > 1:
                if stride <= reach:
                    return False
                reach += (size - 1) * stride
        return True


def _reading(tensor: Tensor) -> tuple[object, ...]:
    """How the bits of a tensor become numbers."""
    return tensor.dtype, tensor.is_conj(), tensor.is_neg()


@dataclass
class _OfTensor(Form):
    """Gradients of a parameter, from those of a tensor made of it that a call used (``inner``)."""

    inner: Form
    parameter: Tensor

    def __post_init__(self) -> None:
        self.count, self.shape = self.inner.count, self.parameter.shape
        self.device = self.parameter.device

    def _bytes_per_example(self, algorithm: str) -> int:
        return 4 * self.parameter.numel() + self.inner._bytes_per_example("direct")


@dataclass
class Placed(_OfTensor):
    """Gradients of a view of a parameter: norms are the view's, all other entries are zero."""

    geometry: Geometry

    @property
    def algorithms(self) -> tuple[str, ...]:
        return ("inner",)

    def explicit(self, start: int, stop: int) -> Tensor:
        return torch.stack([self._put(g) for g in self.inner.explicit(start, stop)])

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        return self.inner.dots(torch.stack([self._taken(v) for v in directions]))

    def merged(self, other: Form) -> Form | None:
        if not isinstance(other, Placed) or other.geometry != self.geometry:
            return None
        inner = self.inner.merged(other.inner)
        return None if inner is None else Placed(inner, self.parameter, self.geometry)

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        of_view = choose(self.inner, segments)
        return of_view._replace(totals=torch.stack([self._put(t) for t in of_view.totals]))

    def _put(self, values: Tensor) -> Tensor:
        whole = torch.zeros_like(self.parameter, dtype=values.dtype)
        whole.as_strided(*self.geometry).copy_(values)
        return whole

    def _taken(self, whole: Tensor) -> Tensor:
        """What the view shows of values in the parameter's shape, ``inner.shape``."""
        own = torch.empty_like(self.parameter, dtype=whole.dtype).copy_(whole)
        return own.as_strided(*self.geometry)


@dataclass
class PulledBack(_OfTensor):
    """``J^T g[n]``: gradients of a tensor computed from a parameter, taken back through autograd.

    Cost: every example's gradient is made, and taken back a chunk at a time.
    """

    tensor: Tensor  # computed from parameters alone, with its graph

    def explicit(self, start: int, stop: int) -> Tensor:
        values = self.inner.explicit(start, stop).reshape(stop - start, *self.tensor.shape)
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(
                self.tensor, self.parameter, values.to(self.tensor.dtype),
                retain_graph=True, is_grads_batched=True, allow_unused=True,
            )  # fmt: skip
        if gradients is None:
            return self.parameter.new_zeros(stop - start, *self.shape)
        return gradients

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        """``g[n] . J v[d]``; with explicit gradients where the derivation has no second derivative.

        A direction is taken forward as the derivative of ``J^T u . v`` by ``u``.
        """
        try:
            forward = self._forward(directions)
        except (NotImplementedError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            return super().dots(directions)
        return self.inner.dots(forward.reshape(len(directions), *self.inner.shape).detach())

    def _forward(self, directions: Tensor) -> Tensor:
        """``J v`` of each direction, in the shape of the tensor."""
        with torch.enable_grad():
            u = torch.zeros_like(self.tensor, requires_grad=True)
            (pulled,) = torch.autograd.grad(
                self.tensor, self.parameter, u, create_graph=True, allow_unused=True
            )
            if pulled is None:
                return directions.new_zeros(len(directions), *self.tensor.shape)
            rows = [
                torch.autograd.grad(pulled, u, v.to(pulled.dtype), retain_graph=True)[0]
                for v in directions
            ]
        return torch.stack(rows)
