"""Directions that the gradients of a batch are multiplied with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Along:
    """D directions in the space of the parameters.

    Args:
        vectors: ``[D, *shape]`` of each parameter, in its dtype and on its device.
        alone: Whether dot products are all that is wanted: no squared norms and no sums.
    """

    vectors: Mapping[str, Tensor]
    alone: bool = False

    def of(self, name: str) -> Tensor:
        """The directions of a parameter, ``[D, *shape]``."""
        return self.vectors[name]
