"""Convolutions and transposed ones, in 1 to 3 dimensions, any stride, padding, dilation, groups.

A convolution is a linear layer on its unfolded input: with ``L`` output positions,
``weight[n] = sum_l dy[n, :, l] unfold(x)[n, :, l]^T`` in each group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.forms import Explicit, Grams, OuterProducts
from analyze.gradients.layout import ExampleLayout
from analyze.gradients.rules.geometry import ConvolutionGeometry, per_axis
from analyze.gradients.rules.rule import Forms, Rule, layer

COPYING = 16  # multiply-adds in a matrix product that unfolding one entry costs
ADDING = 8  # multiply-adds in a matrix product that one addition of a strided entry costs


class Ways(NamedTuple):
    """Ways to make gradients that a kind of convolution has, as ``OuterProducts`` takes them."""

    makers: dict[str, Callable[[int, int], Tensor]]
    single_makers: dict[str, Callable[[int], Tensor]]


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
    weight, geometry = arguments["weight"], ConvolutionGeometry.of(arguments)
    x = layout.examples_first(arguments["input"])  # [N, rows, C, *in]
    dy = layout.examples_first(dy)  # [N, rows, GO, *out]

    def batch_sum(start: int, stop: int) -> Tensor:
        rows_of_x, amounts = x[start:stop].flatten(0, 1), geometry.symmetric
        if amounts is None:  # padding="same" of an even kernel pads one side more
            rows_of_x, amounts = F.pad(rows_of_x, geometry.padding), (0,) * spatial
        rows_of_dy = dy[start:stop].flatten(0, 1)
        return _weight_gradient(rows_of_dy, rows_of_x, weight, geometry, amounts, None)

    def alone(example: int) -> Tensor:
        """A backward pass for each example."""
        padding = geometry.symmetric or ()
        return _weight_gradient(dy[example], x[example], weight, geometry, padding, None)

    def grouped(start: int, stop: int) -> Tensor:
        """One backward pass in which every example is a group of its own."""
        count = stop - start
        many = replace(geometry, groups=count * geometry.groups)
        found = _weight_gradient(
            dy[start:stop].flatten(0, 2)[None], x[start:stop].flatten(0, 2)[None],
            weight.new_empty(count * len(weight), *weight.shape[1:]), many,  # only its shape counts
            geometry.symmetric or (), None,
        )  # fmt: skip
        return found.view(count, *weight.shape)

    def correlated(start: int, stop: int) -> Tensor:
        """The output's gradient as the kernel of a convolution of the input."""
        return geometry.correlate(x[start:stop, 0], dy[start:stop, 0])[:, :, None]

    sides = _Sides(folded=x, flat=dy)
    ways = Ways({}, {})
    if geometry.symmetric is not None and x.shape[1] == 1:
        ways = Ways({"grouped": grouped}, {"alone": alone})
    if x.shape[1] == 1 and geometry.groups == x.shape[2] == dy.shape[2] > 1:
        ways.makers["correlated"] = correlated
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
    weight, geometry = arguments["weight"], ConvolutionGeometry.of(arguments)
    x = layout.examples_first(arguments["input"])  # [N, rows, C, *in]
    dy = layout.examples_first(dy)  # [N, rows, GO, *out]

    def batch_sum(start: int, stop: int) -> Tensor:
        assert geometry.symmetric is not None, "transposed convolutions pad by numbers"
        extra = per_axis(arguments["output_padding"], spatial)
        rows_of_x, rows_of_dy = (v[start:stop].flatten(0, 1) for v in (x, dy))
        return _weight_gradient(
            rows_of_dy, rows_of_x, weight, geometry, geometry.symmetric, output_padding=extra
        )

    sides = _Sides(folded=dy, flat=x)
    return _forms(arguments, wanted, sides, dy, geometry, batch_sum, Ways({}, {}))


class _Sides(NamedTuple):
    """The two factors of a weight gradient, ``[N, rows, channels, *positions]``."""

    folded: Tensor  # this one is unfolded
    flat: Tensor  # this one is taken as it is; its spatial axes are the positions


def _forms(
    arguments: dict[str, Any],
    wanted: frozenset[str],
    sides: _Sides,
    dy: Tensor,
    geometry: ConvolutionGeometry,
    batch_sum: Callable[[int, int], Tensor],
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

    def rows_as_they_are(start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The factors of a convolution that sees one position at a time."""
        x = sides.folded[start:stop].reshape(stop - start, groups, inputs, -1)
        flat = sides.flat[start:stop].reshape(stop - start, groups, outputs, -1)
        return x.transpose(2, 3), flat.transpose(2, 3)

    def patches_of(folded: Tensor) -> Tensor:
        """``[n, C, *in]`` to ``[n, C, *kernel, *positions]``."""
        patches = geometry.unfold(folded)
        for axis, length in enumerate(size, start=patches.dim() - len(size)):
            patches = patches.narrow(axis, 0, length)  # output_padding may add positions
        return patches

    def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
        patches = patches_of(sides.folded[start:stop].flatten(0, 1))
        patches = patches.reshape(stop - start, rows, groups, inputs, -1)
        patches = patches.movedim(1, 3).flatten(3)  # [n, G, K, rows*L]
        flat = sides.flat[start:stop].reshape(stop - start, rows, groups, outputs, -1)
        flat = flat.movedim(1, 3).flatten(3)  # [n, G, O, rows*L]
        return patches.transpose(2, 3), flat.transpose(2, 3)

    def unfolded_sum(start: int, stop: int, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        folded = sides.folded[start:stop].flatten(0, 1)
        # Channels last, or single numbers would be copied in place of a pixel's channels.
        patches = patches_of(folded.movedim(1, -1).contiguous().movedim(-1, 1))
        taps, channels = geometry.kernel.numel(), weight.shape[1]
        kernel, places = range(2, 2 + len(size)), range(2 + len(size), patches.dim())
        patches = patches.permute(0, *places, *kernel, 1).reshape(-1, taps, groups, channels)
        patches = patches.permute(2, 0, 1, 3).flatten(2)  # [G, n*T, taps*C]
        flat = sides.flat[start:stop].reshape(len(folded), groups, outputs, -1)
        both = zip(flat.permute(1, 2, 0, 3).flatten(2).unbind(), patches.unbind(), strict=True)
        products = [product(left, right) for left, right in both]
        totals = products[0] if groups == 1 else torch.cat(products)
        # The last axis of the product stays the closest in memory: a copy would take as long.
        return totals.view(len(weight), *geometry.kernel, channels).movedim(-1, 1)

    found["weight"] = OuterProducts(
        count=count,
        shape=weight.shape,
        dims=(groups, rows * size.numel(), outputs, inputs),
        factors=rows_as_they_are if rows == 1 and geometry.pointwise else factors,
        batch_sum=batch_sum,
        like=dy,
        grams=_grams(sides, geometry, size) if rows == 1 else None,
        makers=ways.makers,
        single_makers=ways.single_makers,
        unfolded_sum=unfolded_sum,
    )
    return found


def _grams(sides: _Sides, geometry: ConvolutionGeometry, size: torch.Size) -> Grams | None:
    """The Gram matrix of patches from that of single positions, if that is cheaper.

    Patches at t and t' have the inner product ``sum_o <z[t + o], z[t' + o]>`` over the offsets
    ``o`` of the kernel, so the Gram matrix of positions is made once, and added up shifted, along
    one axis after the other.
    """
    groups, taps = geometry.groups, geometry.kernel.numel()
    inputs = sides.folded.shape[3:]
    places, positions = inputs.numel(), size.numel()
    channels, others = sides.folded.shape[2] // groups, sides.flat.shape[2] // groups
    if places**2 > positions * taps * (positions + COPYING):
        return None  # a stride that leaves most positions out

    def of(start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        z = sides.folded[start:stop, 0].reshape(stop - start, groups, channels, places).to(dtype)
        y = sides.flat[start:stop, 0].reshape(stop - start, groups, others, positions).to(dtype)
        single = (z.transpose(2, 3) @ z).view(*z.shape[:2], *inputs, *inputs)
        return geometry.patch_grams(single, size), y.transpose(2, 3) @ y

    cost = places**2 * channels + positions**2 * (others + ADDING * sum(geometry.kernel))
    values = 2 * places**2 + 2 * positions**2 + places * channels + positions * others
    return Grams(of, cost, values)


def _weight_gradient(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: ConvolutionGeometry,
    padding: tuple[int, ...],
    output_padding: tuple[int, ...] | None,
) -> Tensor:
    """Torch's own weight gradient of a batch; transposed where there is output padding."""
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, geometry.stride, padding, geometry.dilation,
        output_padding is not None, output_padding or (0,) * len(padding), geometry.groups,
        [False, True, False],
    )[1]  # fmt: skip


def examples_on_the_batch_axis(
    spatial: int, arguments: dict[str, Any], layout: ExampleLayout
) -> bool:
    """Batched input with its examples on axis 0; an unbatched call has no axis for them."""
    return layout.axis == 0 and arguments["input"].dim() == spatial + 2


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
