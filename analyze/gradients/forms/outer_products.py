"""Sums of outer products over positions: linear layers, convolutions, contractions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.forms.form import Form, Summary


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
        view: As for every form.
        uses: The calls that this was merged from, so that merging many stays cheap.

    Cost, in multiply-adds beyond the ordinary weight gradient ``N*G*T*O*K``: ``direct`` none (it
    replaces it), ``gram`` ``N*G*T*T*(O + K)``, in float64 because its terms may cancel.
    """

    count: int
    shape: torch.Size
    dims: tuple[int, int, int, int]
    factors: Callable[[int, int], tuple[Tensor, Tensor]]
    batch_sum: Callable[[], Tensor]
    like: Tensor
    view: Callable[[Tensor], Tensor] | None = None
    uses: tuple[OuterProducts, ...] = ()

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

    def _by(self, algorithm: str, choose: Callable[[Form], Summary]) -> Summary:
        return self._gram() if algorithm == "gram" else self._direct()

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

    def merged(self, other: Form) -> Form | None:
        """The same parameter used again: its positions are those of all uses."""
        if not isinstance(other, OuterProducts) or other.shape != self.shape:
            return None
        groups, positions, outputs, inputs = self.dims
        if (other.dims[0], other.dims[2], other.dims[3]) != (groups, outputs, inputs):
            return None
        uses = (*(self.uses or (self,)), *(other.uses or (other,)))

        def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
            sides = [use.factors(start, stop) for use in uses]
            return torch.cat([x for x, _ in sides], 2), torch.cat([dy for _, dy in sides], 2)

        def batch_sum() -> Tensor:
            return torch.stack([use.batch_sum() for use in uses]).sum(0)

        dims = (groups, positions + other.dims[1], outputs, inputs)
        return OuterProducts(
            self.count, self.shape, dims, factors, batch_sum, self.like, self.view, uses
        )
