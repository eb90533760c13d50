"""How a convolution walks over its input: patches, Gram matrices of patches, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MATRIX = 1 << 16  # entries of a matrix that is cheaper to multiply with than strided additions

Index = tuple[slice, ...]

CONVOLUTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Kernel size, and stride, dilation and so on for each spatial axis.

    ``padding`` is as ``F.pad`` takes it: before and after, the last axis first.
    """

    kernel: torch.Size
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    @staticmethod
    def of(arguments: dict[str, Any]) -> ConvolutionGeometry:
        """The geometry of a call; kept, as a model makes the same calls again."""
        stride, dilation, padding = (
            tuple(v) if isinstance(v := arguments[k], list) else v
            for k in ("stride", "dilation", "padding")
        )
        return _geometry(
            arguments["weight"].shape[2:], stride, dilation, padding, arguments["groups"]
        )

    def patch_grams(self, gram: Tensor, size: torch.Size) -> Tensor:
        """``sum_o gram[.., t + o, .., t' + o]`` over the kernel's offsets.

        Inner products of single positions ``[n, G, *in, *in]``, zero beyond the input, become
        ``[n, G, T, T]`` for the T positions of an output of ``size``.
        """
        spatial, positions = len(self.kernel), size.numel()
        if self.pointwise:
            return gram.reshape(*gram.shape[:2], positions, positions)
        if gram.shape[2:].numel() * positions**2 > MATRIX:
            for axis in range(spatial):
                gram = self._added_along(axis, gram, size[axis])
            return gram.reshape(*gram.shape[:2], positions, positions)
        adding = _adding_matrix(self, gram.shape[2 : 2 + spatial], size, gram.dtype, gram.device)
        return (gram.flatten(2) @ adding).view(*gram.shape[:2], positions, positions)

    def _added_along(self, axis: int, gram: Tensor, length: int) -> Tensor:
        """The sum over the kernel's offsets along one axis of the positions."""
        spatial = len(self.kernel)
        both = (2 + axis, 2 + spatial + axis)
        shape = list(gram.shape)
        shape[both[0]] = shape[both[1]] = length
        added = gram.new_zeros(shape)
        for ours, theirs in _shifts(self, axis, gram.shape[both[0]], length):
            added[ours].add_(gram[theirs])  # `+=` would also copy it to itself
        return added

    def _inside(self, axis: int, offset: int, size: int, length: int) -> tuple[slice, slice] | None:
        """Where in output and input an ``offset`` of the kernel is inside the input, or None."""
        step = self.stride[axis]
        shift = offset * self.dilation[axis] - self.padding[0::2][::-1][axis]
        first = max(0, -(shift // step))  # the first with first * step + shift >= 0
        last = min(length - 1, (size - 1 - shift) // step)
        if last < first:
            return None
        return (
            slice(first, last + 1),
            slice(first * step + shift, last * step + shift + 1, step),
        )

    def unfold(self, x: Tensor, size: torch.Size, channels_last: bool = False) -> Tensor:
        """The patches a convolution sees: ``[N, C, *in]`` to ``[N, C, *kernel, *size]``.

        A view of the padded input: nothing is copied beyond the padding, and for the channels of a
        pixel to lie together in memory. ``size`` is at most what the padded input has room for.
        """
        if channels_last:  # in one copy, the channels being the last axis while it is made
            x = F.pad(x.movedim(1, -1), (0, 0, *self.padding)).movedim(-1, 1)
        elif any(self.padding):
            x = F.pad(x, self.padding)
        # One view: `Tensor.unfold` makes three an axis, each of which takes as long as a sum.
        example, channel, *along = x.stride()
        taps = [gap * stride for gap, stride in zip(self.dilation, along, strict=True)]
        steps = [step * stride for step, stride in zip(self.stride, along, strict=True)]
        shape = (*x.shape[:2], *self.kernel, *size)
        return x.as_strided(shape, (example, channel, *taps, *steps))

    def convolve(self, x: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
        """The convolution ``[N, O, *size]`` of ``[N, C, *in]``, its first positions."""
        padding = self.symmetric
        if padding is None:
            x, padding = F.pad(x, self.padding), (0,) * len(size)
        made = CONVOLUTION[len(size)](
            x, weight, None, self.stride, padding, self.dilation, self.groups
        )
        for axis, length in enumerate(size, start=2):
            made = made.narrow(axis, 0, length)
        return made

    def correlate(self, x: Tensor, dy: Tensor) -> Tensor:
        """``sum_l dy[n, :, l] unfold(x)[n, :, :, l]`` with one input and one output a group.

        ``[n, C, *in]`` and ``[n, C, *out]`` to ``[n, C, *kernel]``: a convolution of each plane
        of ``x`` with that of ``dy`` as its kernel, where stride and dilation change places.
        """
        planes = x.flatten(0, 1)[None]  # [1, n*C, *in]
        symmetric, size = self.symmetric, dy.shape[2:]
        extents = [step * (n - 1) + 1 for step, n in zip(self.stride, size, strict=True)]
        if symmetric is None or any(a >= b for a, b in zip(symmetric, extents, strict=True)):
            planes = F.pad(planes, self.padding)  # oneDNN is slow where it is as wide as a kernel
            symmetric = (0,) * len(size)
        correlated = CONVOLUTION[len(size)](
            planes, dy.flatten(0, 1)[:, None], None, self.dilation, symmetric, self.stride,
            planes.shape[1],
        )  # fmt: skip
        for axis, length in enumerate(self.kernel, start=2):
            correlated = correlated.narrow(axis, 0, length)  # what a stride left over gives more
        return correlated.unflatten(1, x.shape[:2])[0]

    @cached_property
    def pointwise(self) -> bool:
        """Whether the output at a position is that of the input there, and there alone."""
        return self.kernel.numel() == 1 and set(self.stride) == {1} and not any(self.padding)

    @cached_property
    def symmetric(self) -> tuple[int, ...] | None:
        """The padding per axis, where both sides have the same."""
        before, after = self.padding[0::2], self.padding[1::2]
        return before[::-1] if before == after else None


@cache
def _geometry(
    kernel: torch.Size,
    stride: int | tuple[int, ...],
    dilation: int | tuple[int, ...],
    padding: str | int | tuple[int, ...],
    groups: int,
) -> ConvolutionGeometry:
    steps, gaps = (per_axis(value, len(kernel)) for value in (stride, dilation))
    return ConvolutionGeometry(kernel, steps, gaps, _pad_amounts(padding, kernel, gaps), groups)


@cache
def _adding_matrix(
    geometry: ConvolutionGeometry,
    inputs: torch.Size,
    size: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """The matrix of ones and zeros that adds up ``[.., in * in]`` to ``[.., T * T]``."""
    unit = torch.eye(inputs.numel() ** 2, dtype=dtype, device=device)
    gram = unit.view(1, -1, *inputs, *inputs)
    for axis, length in enumerate(size):
        gram = geometry._added_along(axis, gram, length)
    return gram.reshape(len(unit), -1)


def per_axis(value: int | Sequence[int], spatial: int) -> tuple[int, ...]:
    """One number per spatial axis, as convolutions let one stand for all."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * spatial if len(values) == 1 else values


def _pad_amounts(
    padding: str | int | Sequence[int], kernel: torch.Size, dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Padding as ``F.pad`` takes it: before and after, the last axis first."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        assert not isinstance(padding, str)
        sides = [(amount, amount) for amount in per_axis(padding, len(kernel))]
    return tuple(amount for pair in reversed(sides) for amount in pair)


@cache
def _shifts(
    geometry: ConvolutionGeometry, axis: int, size: int, length: int
) -> list[tuple[Index, Index]]:
    """For each offset, the index of ``[n, G, *out, *out]`` to add to, and that of the summand."""
    axes = (2 + axis, 2 + len(geometry.kernel) + axis)

    def at_both(part: slice) -> Index:
        return tuple(part if k in axes else slice(None) for k in range(axes[1] + 1))

    offsets = range(geometry.kernel[axis])
    inside = (geometry._inside(axis, offset, size, length) for offset in offsets)
    return [(at_both(ours), at_both(theirs)) for ours, theirs in filter(None, inside)]
