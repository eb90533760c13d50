"""Convolutions in one, two and three dimensions, any stride, padding, dilation and groups.

A convolution is a linear layer on its unfolded input: with ``L`` output positions,
``weight[n] = sum_l dy[n, :, l] unfold(x)[n, :, l]^T`` in each group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.forms import Explicit, Form, OuterProducts
from analyze.gradients.layout import ExampleLayout
from analyze.gradients.rules.rule import Rule


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
    spatial: int, arguments: dict[str, Any], dy: Tensor, layout: ExampleLayout, wanted: set[str]
) -> dict[str, Form]:
    """``weight`` as outer products of unfolded input and output gradient, ``bias`` their sum.

    Rows of the batch that belong to one example (windows folded into the batch) become further
    positions of it. Cost: as ``OuterProducts`` plus the unfolding, ``N*K*L`` values a chunk.
    """
    weight, groups = arguments["weight"], arguments["groups"]
    x = layout.examples_first(arguments["input"])  # [N, rows, C, *in]
    dy = layout.examples_first(dy)  # [N, rows, GO, *out]
    count, rows = x.shape[:2]
    found: dict[str, Form] = {}
    if "bias" in wanted:
        found["bias"] = Explicit(dy.movedim(2, 1).flatten(2).sum(2))
    if "weight" not in wanted:
        return found

    stride, dilation = (_per_axis(arguments[k], spatial) for k in ("stride", "dilation"))
    padding = _pad_amounts(arguments["padding"], weight.shape[2:], dilation)
    outputs, inputs = weight.shape[0] // groups, weight[0].numel()

    def factors(start: int, stop: int) -> tuple[Tensor, Tensor]:
        patches = unfold(
            x[start:stop].flatten(0, 1), weight.shape[2:], stride, padding, dilation
        )  # [n*rows, C, *kernel, *out]
        patches = patches.reshape(stop - start, rows, groups, inputs, -1)
        patches = patches.movedim(1, 3).flatten(3)  # [n, G, K, rows*L]
        delta = dy[start:stop].reshape(stop - start, rows, groups, outputs, -1)
        delta = delta.movedim(1, 3).flatten(3)  # [n, G, O, rows*L]
        return patches.transpose(2, 3), delta.transpose(2, 3)

    def batch_sum() -> Tensor:
        rows_of_x, rows_of_dy = x.flatten(0, 1), dy.flatten(0, 1)
        symmetric = padding[0::2] == padding[1::2]
        if not symmetric:  # padding="same" of an even kernel pads one side more
            rows_of_x = F.pad(rows_of_x, padding)
        amounts = padding[0::2][::-1] if symmetric else [0] * spatial
        return torch.ops.aten.convolution_backward(
            rows_of_dy, rows_of_x, weight, None, stride, amounts, dilation,
            False, [0] * spatial, groups, [False, True, False],
        )[1]  # fmt: skip

    found["weight"] = OuterProducts(
        count=count,
        shape=weight.shape,
        dims=(groups, rows * dy[0, 0, 0].numel(), outputs, inputs),
        factors=factors,
        batch_sum=batch_sum,
        like=x,
    )
    return found


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
    return Rule(
        function=function,
        name=f"conv{spatial}d",
        arguments={
            "input": None, "weight": None, "bias": None,
            "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
        },
        weights=("weight", "bias"),
        forms=partial(convolution_forms, spatial),
        accepts=partial(examples_on_the_batch_axis, spatial),
    )  # fmt: skip


CONVOLUTIONS = (_rule(F.conv1d, 1), _rule(F.conv2d, 2), _rule(F.conv3d, 3))
