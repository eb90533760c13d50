"""A batch of outer products as one matrix product: all positions of all examples in one matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.data.segments import stacked
from analyze.gradients.forms import onednn

Product = Callable[[Tensor, Tensor], Tensor]  # of two matrices

PRODUCTS: dict[str, Product] = {"unfolded": torch.matmul, "unfolded by oneDNN": onednn.product}


class Walk(NamedTuple):
    """How a convolution walks over one of the factors, as far as unfolding it takes time."""

    kernel: tuple[int, ...]
    places: int  # positions of an example before it is unfolded
    padded: int  # positions with the padding that is copied around them; 0 where none is
    row: int  # positions of the output along the last axis
    step: int  # and how far they lie apart here
    copied: bool  # whether patches are another tensor than the factor itself


class Unfolded(NamedTuple):
    """Both factors of n examples, example by example, in each of G groups."""

    x: Tensor  # [G, n*T, K], the K in an order of their own
    dy: Tensor  # [G, O, n*T]
    in_shape: Callable[[Tensor], Tensor]  # [G, O, K] in that order to the parameter's shape

    def total(self, product: Product) -> Tensor:
        """The sum of the gradients, in the shape of the parameter; it keeps the order in memory."""
        pairs = zip(self.dy.unbind(), self.x.unbind(), strict=True)
        totals = [product(dy, x) for dy, x in pairs]
        return self.in_shape(stacked(totals))

    @property
    def by_position(self) -> bool:
        """Whether the values of a position lie together in memory, as ``grams`` reads them."""
        return self.x.stride(2) == 1

    def grams(self, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Gram matrices over the positions of each of ``count`` examples, ``[n, G, T, T]`` each."""
        groups, _, inputs = self.x.shape
        x = self.x.to(dtype).reshape(groups * count, -1, inputs)  # [G*n, T, K]
        dy = self.dy.to(dtype).unflatten(2, (count, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        both = torch.bmm(x, x.transpose(1, 2)), torch.bmm(dy, dy.transpose(1, 2))
        x_gram, dy_gram = (g.view(groups, count, *g.shape[1:]).transpose(0, 1) for g in both)
        return x_gram, dy_gram
