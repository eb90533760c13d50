"""Convolutions and transposed ones, in 1 to 3 dimensions, any stride, padding, dilation, groups.

A convolution is a linear layer on its unfolded input: with ``L`` output positions,
``weight[n] = sum_l dy[n, :, l] unfold(x)[n, :, l]^T`` in each group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.forms import Explicit, Make, OuterProducts
from analyze.gradients.rules.geometry import ConvolutionGeometry, per_axis
from analyze.gradients.rules.patches import Sides
from analyze.gradients.rules.rule import Forms, Rule, layer, made


def convolution_forms(
    spatial: int,
    arguments: dict[str, Any],
    dy: Tensor,
    axis: ExampleAxis,
    wanted: frozenset[str],
) -> Forms:
    """``weight[n, g, o, k] = sum_l dy[n, g, l, o] unfold(x)[n, g, l, k]``, ``bias`` the sum of dy.

    Rows of the batch that belong to one example (windows folded into the batch) become further
    positions of it. Cost: as ``OuterProducts`` plus the unfolding, ``N*K*L`` values a chunk.
    """
    weight, geometry = arguments["weight"], ConvolutionGeometry.of(arguments)
    sides = Sides(
        axis.rows(arguments["input"]), axis.rows(dy), axis.positions, geometry, weight.shape
    )

    def batch_sum(start: int, stop: int) -> Tensor:
        (x, dy), amounts = sides.of(start, stop), geometry.symmetric
        if amounts is None:  # padding="same" of an even kernel pads one side more
            x, amounts = F.pad(x, geometry.padding), (0,) * spatial
        return _weight_gradient(dy, x, weight, geometry, amounts)

    def alone(example: int) -> Tensor:
        """One backward pass for a single example."""
        x, dy = sides.of(example, example + 1)
        return _weight_gradient(dy, x, weight, geometry, geometry.symmetric or ())

    def grouped(start: int, stop: int) -> Tensor:
        """One backward pass in which every example is a group of its own."""
        (x, dy), count = sides.of(start, stop), stop - start
        many = replace(geometry, groups=count * geometry.groups)
        gradients = _weight_gradient(
            dy.flatten(0, 1)[None], x.flatten(0, 1)[None],
            weight.new_empty(count * len(weight), *weight.shape[1:]), many,  # only its shape counts
            geometry.symmetric or (),
        )  # fmt: skip
        return gradients.view(count, *weight.shape)

    def correlated(start: int, stop: int) -> Tensor:
        """The output's gradient as the kernel of a convolution of the input."""
        return geometry.correlate(*sides.of(start, stop))[:, :, None]

    makers: dict[str, Make] = {}
    single_makers: dict[str, Callable[[int], Tensor]] = {}
    if sides.several == 1:
        if geometry.symmetric is not None:
            makers, single_makers = {"grouped": grouped}, {"alone": alone}
        if geometry.groups == sides.folded.shape[1] == sides.flat.shape[1] > 1:
            makers["correlated"] = correlated
    return _forms(wanted, sides, dy, axis, batch_sum, makers, single_makers)


def _transposed_forms(
    spatial: int,
    arguments: dict[str, Any],
    dy: Tensor,
    axis: ExampleAxis,
    wanted: frozenset[str],
) -> Forms:
    """``weight[n, g, i, k] = sum_l x[n, g, l, i] unfold(dy)[n, g, l, k]``: sides swapped.

    A transposed convolution is the input gradient of a convolution, so its weight gradient is
    that convolution's, with the output gradient unfolded. Cost: as ``convolution_forms``.
    """
    weight, geometry = arguments["weight"], ConvolutionGeometry.of(arguments)
    sides = Sides(
        axis.rows(dy), axis.rows(arguments["input"]), axis.positions, geometry, weight.shape
    )

    def batch_sum(start: int, stop: int) -> Tensor:
        assert geometry.symmetric is not None, "transposed convolutions pad by numbers"
        dy, x = sides.of(start, stop)
        extra = per_axis(arguments["output_padding"], spatial)
        return _weight_gradient(dy, x, weight, geometry, geometry.symmetric, extra)

    return _forms(wanted, sides, dy, axis, batch_sum, {}, {})


def _forms(
    wanted: frozenset[str],
    sides: Sides,
    dy: Tensor,
    axis: ExampleAxis,
    batch_sum: Make,
    makers: dict[str, Make],
    single_makers: dict[str, Callable[[int], Tensor]],
) -> Forms:
    """Bias and weight of a convolution, either way round."""
    return made(
        wanted,
        bias=lambda: Explicit(axis.added_up(dy.flatten(2).sum(2))),
        weight=lambda: OuterProducts(
            count=axis.count(dy),
            shape=sides.shape,
            dims=sides.dims,
            factors=sides.factors,
            batch_sum=batch_sum,
            like=dy,
            grams=sides.grams(),
            makers=makers,
            single_makers=single_makers,
            unfolded=sides.unfolded,
            outputs=sides.outputs,
            walk=sides.walk,
        ),
    )


def _weight_gradient(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: ConvolutionGeometry,
    padding: tuple[int, ...],
    output_padding: tuple[int, ...] | None = None,
) -> Tensor:
    """Torch's own weight gradient of a batch; transposed where there is output padding."""
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, geometry.stride, padding, geometry.dilation,
        output_padding is not None, output_padding or (0,) * len(padding), geometry.groups,
        [False, True, False],
    )[1]  # fmt: skip


def _examples_on_the_batch_axis(spatial: int, arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """Whether examples lie on axis 0; an unbatched call has no axis for them."""
    return axis.dim == 0 and arguments["input"].dim() == spatial + 2


def _rule(spatial: int, transposed: bool) -> Rule:
    name = f"conv_transpose{spatial}d" if transposed else f"conv{spatial}d"
    arguments = {"input": None, "weight": None, "bias": None, "stride": 1, "padding": 0}
    arguments |= (
        {"output_padding": 0, "groups": 1, "dilation": 1}
        if transposed
        else {"dilation": 1, "groups": 1}
    )
    forms = partial(_transposed_forms if transposed else convolution_forms, spatial)
    accepts = partial(_examples_on_the_batch_axis, spatial)
    return layer(name, getattr(F, name), arguments, forms, accepts)


CONVOLUTIONS = tuple(
    _rule(spatial, transposed) for transposed in (False, True) for spatial in (1, 2, 3)
)
