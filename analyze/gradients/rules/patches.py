"""The two factors of a convolution's weight gradient: patches of one side, positions of the other.

``weight[n, g, o, k] = sum_l flat[n, g, o, l] patches(folded)[n, g, l, k]``: of a convolution the
input is folded and the output's gradient flat, of a transposed one the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from analyze.gradients.forms import Grams, Unfolded, Walk, rows
from analyze.gradients.rules.geometry import ConvolutionGeometry

COPYING = 16  # multiply-adds in a matrix product that unfolding one entry costs
ADDING = 8  # multiply-adds in a matrix product that one addition of a strided entry costs


@dataclass
class Sides:
    """Both factors, and how the one is unfolded."""

    folded: Tensor  # [N * several, channels, *in]; this one is unfolded
    flat: Tensor  # [N * several, channels, *out]; its spatial axes are the positions
    several: int  # rows of one example
    geometry: ConvolutionGeometry  # of the convolution of ``folded``
    shape: torch.Size  # the weight's: [channels of flat, channels of folded in a group, *kernel]

    def __post_init__(self) -> None:
        groups = self.geometry.groups
        self.size = self.flat.shape[2:]  # positions along each axis
        positions = self.several * self.size.numel()  # an example's rows are positions
        # (G, T, O, K), as OuterProducts takes them
        self.dims = groups, positions, self.shape[0] // groups, self.shape[1:].numel()

    def of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Both sides of a range of examples, ``[n * several, ...]``."""
        first, end = start * self.several, stop * self.several
        return rows(self.folded, first, end), rows(self.flat, first, end)

    def factors(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Both factors of a range of examples, ``[n, G, T, K]`` and ``[n, G, T, O]``."""
        count, several = stop - start, self.several
        groups, _, outputs, inputs = self.dims
        folded, flat = self.of(start, stop)
        x = self._patches(folded).reshape(count, several, groups, inputs, -1)
        dy = flat.reshape(count, several, groups, outputs, -1)
        if several == 1:
            return x[:, 0].transpose(2, 3), dy[:, 0].transpose(2, 3)
        x, dy = (side.movedim(1, 3).flatten(3) for side in (x, dy))
        return x.transpose(2, 3), dy.transpose(2, 3)

    def outputs(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The folded side convolved by a weight, and the flat side, ``[N, entries]`` each."""
        made = self.geometry.convolve(self.folded, weight, self.size)
        count = len(made) // self.several
        return made.reshape(count, -1), self.flat.reshape(count, -1)

    def unfolded(self, start: int, stop: int) -> Unfolded:
        """All positions of a range of examples in two matrices a group."""
        groups, _, outputs, inputs = self.dims
        folded, flat = self.of(start, stop)
        dy = _positions_last(flat, groups, outputs)
        if inputs == self.shape[1]:  # one tap: single positions
            x = _positions_last(self._patches(folded), groups, inputs).transpose(1, 2)
            return Unfolded(x, dy, self._in_shape)
        # Channels last, or single numbers would be copied in place of a pixel's channels.
        patches = self.geometry.unfold(folded, self.size, channels_last=True)
        spatial = len(self.size)
        kernel, places = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
        x = patches.unflatten(1, (groups, -1)).permute(1, 0, *places, *kernel, 2)
        return Unfolded(x.reshape(groups, -1, inputs), dy, self._in_shape)

    def grams(self) -> Grams | None:
        """The Gram matrix of patches from that of single positions, if that is cheaper.

        Patches at t and t' have the inner product ``sum_o <z[t + o], z[t' + o]>`` over the offsets
        ``o`` of the kernel, so the Gram matrix of positions is made once, and added up shifted,
        along one axis after the other.
        """
        geometry, groups, inputs = self.geometry, self.geometry.groups, self.folded.shape[2:]
        places, positions, taps = inputs.numel(), self.size.numel(), geometry.kernel.numel()
        channels, others = self.shape[1], self.shape[0] // groups
        if self.several > 1 or places**2 > positions * taps * (positions + COPYING):
            return None  # positions in several rows, or a stride that leaves most of them out

        def of(start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            count, (folded, flat) = stop - start, self.of(start, stop)
            z = folded.reshape(count, groups, channels, places).to(dtype)
            y = flat.reshape(count, groups, others, positions).to(dtype)
            single = (z.transpose(2, 3) @ z).view(*z.shape[:2], *inputs, *inputs)
            return geometry.patch_grams(single, self.size), y.transpose(2, 3) @ y

        cost = places**2 * channels + positions**2 * (others + ADDING * sum(geometry.kernel))
        values = 2 * places**2 + 2 * positions**2 + places * channels + positions * others
        return Grams(of, cost, values)

    @property
    def walk(self) -> Walk:
        """What unfolding takes time by."""
        geometry, inputs = self.geometry, self.folded.shape[2:]
        sides = zip(inputs, geometry.padding[0::2][::-1], geometry.padding[1::2][::-1], strict=True)
        padded = math.prod(sum(side) for side in sides) if any(geometry.padding) else 0
        return Walk(
            tuple(geometry.kernel), self.several * inputs.numel(), self.several * padded,
            self.size[-1], geometry.stride[-1], not geometry.pointwise,
        )  # fmt: skip

    def _patches(self, folded: Tensor) -> Tensor:
        """The taps and positions of some rows, ``[rows, C, ...]`` in any further shape."""
        return folded if self.geometry.pointwise else self.geometry.unfold(folded, self.size)

    def _in_shape(self, total: Tensor) -> Tensor:
        """``[G, O, taps*C]`` to the shape of the weight, in the same memory."""
        channels_last = total.view(self.shape[0], *self.geometry.kernel, self.shape[1])
        return channels_last.movedim(-1, 1)


def _positions_last(side: Tensor, groups: int, channels: int) -> Tensor:
    """``[n, G*C, *positions]`` to ``[G, C, n*positions]``."""
    return side.flatten(2).transpose(0, 1).reshape(groups, channels, -1)
