"""Convolutions and transposed ones, in 1 to 3 dimensions, any stride, padding, dilation, groups.

A convolution is a linear layer on its unfolded input: with ``L`` output positions,
``weight[n] = sum_l dy[n, :, l] unfold(x)[n, :, l]^T`` in each group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.forms import Explicit, Grams, OuterProducts
from analyze.gradients.layout import ExampleLayout
from analyze.gradients.rules.rule import Forms, Rule, layer

ADDING = 8  # multiply-adds in a matrix product that one addition of a strided entry costs


class Ways(NamedTuple):
    """Ways to make gradients that a kind of convolution has, as ``OuterProducts`` takes them."""

    makers: dict[str, Callable[[int, int], Tensor]]
    single_makers: dict[str, Callable[[int], Tensor]]


def unfold(
    x: Tensor, kernel: Sequence[int], stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """The patches a convolution sees, in any number of dimensions.

    ``[N, C, *in]`` to ``[N, C, *kernel, *out]``, a view of the padded input: nothing is copied
    beyond the padding. ``padding`` is as ``F.pad`` takes it.
    """
    x = F.pad(x, padding) if any(padding) else x
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]  # [N, C, *out, ..., size]
    spatial = len(kernel)
    order = (0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial))
    return x.permute(order)


def convolution_forms(
    spatial: int,
    arguments: dict[str, Any],
    dy: Tensor,
    layout: ExampleLayout,
    wanted: frozenset[str],
) -> Forms:
    """``weight[n, g, o, k] = sum_l dy[n, g, l, o] unfold(x)[n, g, l, k]``, ``bias`` the sum of dy.

    Rows of the batch that belong to one example (windows folded into the batch) become further
    positions of it. Cost: as ``OuterProducts`` plus the unfolding, ``N*K*L`` values a chunk.
    """
    weight, geometry = arguments["weight"], _Geometry.of(arguments, spatial)
    x = layout.examples_first(arguments["input"])  # [N, rows, C, *in]
    dy = layout.examples_first(dy)  # [N, rows, GO, *out]

    def batch_sum() -> Tensor:
        rows_of_x, amounts = x.flatten(0, 1), geometry.symmetric
        if amounts is None:  # padding="same" of an even kernel pads one side more
            rows_of_x, amounts = F.pad(rows_of_x, geometry.padding), [0] * spatial
        return _weight_gradient(dy.flatten(0, 1), rows_of_x, weight, geometry, amounts, None)

    def alone(example: int) -> Tensor:
        """A backward pass for each example."""
        padding = geometry.symmetric or []
        return _weight_gradient(dy[example], x[example], weight, geometry, padding, None)

    def grouped(start: int, stop: int) -> Tensor:
        """One backward pass in which every example is a group of its own."""
        count = stop - start
        many = replace(geometry, groups=count * geometry.groups)
        found = _weight_gradient(
            dy[start:stop].flatten(0, 2)[None], x[start:stop].flatten(0, 2)[None],
            weight.repeat(count, *[1] * (spatial + 1)), many, geometry.symmetric or [], None,
        )  # fmt: skip
        return found.view(count, *weight.shape)

    sides = _Sides(folded=x, flat=dy)
    ways = Ways({}, {})
    if geometry.symmetric is not None and x.shape[1] == 1:
        ways = Ways({"grouped": grouped}, {"alone": alone})
    return _forms(arguments, wanted, sides, dy, geometry, batch_sum, ways)


def transposed_forms(
    spatial: int,
    arguments: dict[str, Any],
    dy: Tensor,
    layout: ExampleLayout,
    wanted: frozenset[str],
) -> Forms:
    """``weight[n, g, i, k] = sum_l x[n, g, l, i] unfold(dy)[n, g, l, k]``: sides swapped.

    A transposed convolution is the input gradient of a convolution, so its weight gradient is
    that convolution's, with the output gradient unfolded. Cost: as ``convolution_forms``.
    """
    weight, geometry = arguments["weight"], _Geometry.of(arguments, spatial)
    x = layout.examples_first(arguments["input"])  # [N, rows, C, *in]
    dy = layout.examples_first(dy)  # [N, rows, GO, *out]

    def batch_sum() -> Tensor:
        assert geometry.symmetric is not None, "transposed convolutions pad by numbers"
        extra = _per_axis(arguments["output_padding"], spatial)
        rows_of_x, rows_of_dy = x.flatten(0, 1), dy.flatten(0, 1)
        return _weight_gradient(
            rows_of_dy, rows_of_x, weight, geometry, geometry.symmetric, output_padding=extra
        )

    sides = _Sides(folded=dy, flat=x)
    return _forms(arguments, wanted, sides, dy, geometry, batch_sum, Ways({}, {}))


@dataclass(frozen=True)
class _Geometry:
    """How a convolution walks over its input; ``padding`` as ``F.pad`` takes it."""

    kernel: torch.Size
    stride: list[int]
    dilation: list[int]
    padding: list[int]
    groups: int

    @classmethod
    def of(cls, arguments: dict[str, Any], spatial: int) -> _Geometry:
        kernel = arguments["weight"].shape[2:]
        stride, dilation = (_per_axis(arguments[k], spatial) for k in ("stride", "dilation"))
        padding = _pad_amounts(arguments["padding"], kernel, dilation)
        return cls(kernel, stride, dilation, padding, arguments["groups"])

    def added_along(self, axis: int, gram: Tensor, length: int) -> Tensor:
        """``sum_o gram[.., t + o, .., t' + o, ..]`` over the kernel's offsets along one axis.

        Args:
            axis: Of the positions.
            gram: ``[n, G, *positions, *positions]``; beyond the input it is zero.
            length: Of the output along the axis.
        """
        spatial = len(self.kernel)
        both = (2 + axis, 2 + spatial + axis)
        shape = list(gram.shape)
        shape[both[0]] = shape[both[1]] = length
        added = gram.new_zeros(shape)
        for offset in range(self.kernel[axis]):
            inside = self._inside(axis, offset, gram.shape[both[0]], length)
            if inside is not None:
                ours, theirs = (_at(both, part) for part in inside)
                added[ours] += gram[theirs]
        return added

    def _inside(self, axis: int, offset: int, size: int, length: int) -> tuple[slice, slice] | None:
        """Positions of the output, and where ``offset`` of the kernel is at them, inside the input.

        None where that is nowhere.
        """
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

    @property
    def symmetric(self) -> list[int] | None:
        """The padding per axis, where both sides have the same."""
        before, after = self.padding[0::2], self.padding[1::2]
        return before[::-1] if before == after else None


class _Sides(NamedTuple):
    """The two factors of a weight gradient, ``[N, rows, channels, *positions]``."""

    folded: Tensor  # this one is unfolded
    flat: Tensor  # this one is taken as it is; its spatial axes are the positions


def _forms(
    arguments: dict[str, Any],
    wanted: frozenset[str],
    sides: _Sides,
    dy: Tensor,
    geometry: _Geometry,
    batch_sum: Callable[[], Tensor],
    ways: Ways,
) -> Forms:
    """Bias and weight of a convolution, either way round."""
    weight, groups = arguments["weight"], geometry.groups
    found: Forms = {}
    if "bias" in wanted:
        found["bias"] = Explicit(dy.movedim(2, 1).flatten(2).sum(2))
    if "weight" not in wanted:
        return found
    count, rows, channels = sides.flat.shape[:3]
    outputs, inputs = channels // groups, weight.numel() // channels
    size = sides.flat.shape[3:]

    def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
        patches = unfold(
            sides.folded[start:stop].flatten(0, 1),
            geometry.kernel,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
        )  # [n*rows, C, *kernel, *positions]
        for axis, length in enumerate(size, start=patches.dim() - len(size)):
            patches = patches.narrow(axis, 0, length)  # output_padding may add positions
        patches = patches.reshape(stop - start, rows, groups, inputs, -1)
        patches = patches.movedim(1, 3).flatten(3)  # [n, G, K, rows*L]
        flat = sides.flat[start:stop].reshape(stop - start, rows, groups, outputs, -1)
        flat = flat.movedim(1, 3).flatten(3)  # [n, G, O, rows*L]
        return patches.transpose(2, 3), flat.transpose(2, 3)

    found["weight"] = OuterProducts(
        count=count,
        shape=weight.shape,
        dims=(groups, rows * size.numel(), outputs, inputs),
        factors=factors,
        batch_sum=batch_sum,
        like=dy,
        grams=_grams(sides, geometry, size) if rows == 1 else None,
        makers=ways.makers,
        single_makers=ways.single_makers,
    )
    return found


def _grams(sides: _Sides, geometry: _Geometry, size: torch.Size) -> Grams | None:
    """The Gram matrix of patches from that of single positions, if that is cheaper.

    Patches at t and t' have the inner product ``sum_o <z[t + o], z[t' + o]>`` over the offsets
    ``o`` of the kernel, so the Gram matrix of positions is made once, and added up shifted, along
    one axis after the other.
    """
    groups, taps = geometry.groups, geometry.kernel.numel()
    places, positions = sides.folded.shape[3:].numel(), size.numel()
    channels, others = sides.folded.shape[2] // groups, sides.flat.shape[2] // groups
    if places**2 * channels > positions**2 * channels * taps:
        return None  # a stride that leaves most positions out

    def of(start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        z = sides.folded[start:stop, 0].reshape(stop - start, groups, channels, places).to(dtype)
        y = sides.flat[start:stop, 0].reshape(stop - start, groups, others, positions).to(dtype)
        single = (z.transpose(2, 3) @ z).unflatten(3, sides.folded.shape[3:])
        patches = single.unflatten(2, sides.folded.shape[3:])  # [n, G, *in, *in]
        for axis in range(len(size)):
            patches = geometry.added_along(axis, patches, size[axis])
        return patches.reshape(stop - start, groups, positions, positions), y.transpose(2, 3) @ y

    cost = places**2 * channels + positions**2 * (others + ADDING * sum(geometry.kernel))
    values = 2 * places**2 + 2 * positions**2 + places * channels + positions * others
    return Grams(of, cost, values)


def _weight_gradient(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: _Geometry,
    padding: list[int],
    output_padding: list[int] | None,
) -> Tensor:
    """Torch's own weight gradient of a batch; transposed where there is output padding."""
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, geometry.stride, padding, geometry.dilation,
        output_padding is not None, output_padding or [0] * len(padding), geometry.groups,
        [False, True, False],
    )[1]  # fmt: skip


def _at(axes: tuple[int, int], part: slice) -> tuple[slice, ...]:
    """An index with ``part`` at two axes, everything at the others."""
    return tuple(part if k in axes else slice(None) for k in range(axes[1] + 1))


def examples_on_the_batch_axis(
    spatial: int, arguments: dict[str, Any], layout: ExampleLayout
) -> bool:
    """Batched input with its examples on axis 0; an unbatched call has no axis for them."""
    return layout.axis == 0 and arguments["input"].dim() == spatial + 2


def _per_axis(value: int | Sequence[int], spatial: int) -> list[int]:
    """One number per spatial axis, as convolutions let one stand for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * spatial if len(values) == 1 else values


def _pad_amounts(
    padding: str | int | Sequence[int], kernel: torch.Size, dilation: list[int]
) -> list[int]:
    """Padding as ``F.pad`` takes it: before and after, the last axis first."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        assert not isinstance(padding, str)
        sides = [(amount, amount) for amount in _per_axis(padding, len(kernel))]
    return [amount for pair in reversed(sides) for amount in pair]


def _rule(function: Callable[..., Any], spatial: int) -> Rule:
    return layer(
        f"conv{spatial}d",
        function,
        {
            "input": None, "weight": None, "bias": None,
            "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
        },
        partial(convolution_forms, spatial),
        partial(examples_on_the_batch_axis, spatial),
    )  # fmt: skip


def _transposed_rule(function: Callable[..., Any], spatial: int) -> Rule:
    return layer(
        f"conv_transpose{spatial}d",
        function,
        {
            "input": None, "weight": None, "bias": None, "stride": 1, "padding": 0,
            "output_padding": 0, "groups": 1, "dilation": 1,
        },
        partial(transposed_forms, spatial),
        partial(examples_on_the_batch_axis, spatial),
    )  # fmt: skip


CONVOLUTIONS = (
    _rule(F.conv1d, 1),
    _rule(F.conv2d, 2),
    _rule(F.conv3d, 3),
    _transposed_rule(F.conv_transpose1d, 1),
    _transposed_rule(F.conv_transpose2d, 2),
    _transposed_rule(F.conv_transpose3d, 3),
)
