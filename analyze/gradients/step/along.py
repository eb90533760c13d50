"""Directions that the gradients of a batch are multiplied with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analyze.gradients.numbers import as_real, double, where_it_is


@dataclass(frozen=True)
class Along:
    """D directions in the space of the parameters.

    Args:
        vectors: ``[D, *shape]`` of each parameter, in its dtype and on its device.
        alone: Whether dot products are all that is wanted: no squared norms and no sums.
        scales: ``[D]`` float64 by parameter: the directions are so many times the vectors. None
            where they are the vectors.
    """

    vectors: Mapping[str, Tensor]
    alone: bool = False
    scales: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def scaled(cls, vectors: Mapping[str, Tensor], *, alone: bool) -> Along:
        """Directions ``[D, *shape]``, by powers of two near 1, far from float32's smallest numbers.

        The vectors are changed in place. Gradients of fitted examples are tiny, and so are the
        products with sums of them.
        """
        scales = {}
        for name, values in vectors.items():
            parts = as_real(values).flatten(1) if values.dim() > 1 else as_real(values)[:, None]
            if not parts.numel():
                continue
            largest = parts.abs().amax(1)
            exponent = torch.where(largest > 0, largest, 1.0).frexp().exponent.clamp(-120, 120)
            one = torch.ones_like(largest)
            values.mul_(torch.ldexp(one, -exponent).view(-1, *[1] * (values.dim() - 1)))
            scales[name] = torch.ldexp(double(one), where_it_is(exponent))
        return cls(vectors, alone, scales)

    def of(self, name: str) -> Tensor:
        """The vectors of a parameter, ``[D, *shape]``."""
        return self.vectors[name]

    def unscaled(self, name: str, dots: Tensor) -> Tensor:
        """Dot products with the directions, ``[D, N]``, of those with their vectors."""
        scales = self.scales.get(name)
        return dots if scales is None else dots * scales[:, None].to(dots.device)
