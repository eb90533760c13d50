"""Batch (in eval mode), instance, layer, group and RMS norm: ``y = normalised(x) * weight + bias``.

With ``z`` the input normalised without scale and shift, each example's gradient is
``weight[n] = sum_t dy[n, t] z[n, t]`` and ``bias[n] = sum_t dy[n, t]``, the sum over the positions
that share an entry of the parameter. ``z`` is the same functional, called without its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.device.devices import is_cpu
from analyze.gradients.forms import Explicit, Form
from analyze.gradients.rules.rule import KEPT, Forms, Rule, layer, made

FEW = 8  # positions of a plane, below which a CPU's own batch norm is slower than plain arithmetic

LAYER_NORM = {"input": None, "normalized_shape": None, "weight": None, "bias": None, "eps": 1e-5}

Reduce = Callable[[Tensor, ExampleAxis, Tensor], Tensor]


def _norm_forms(
    function: Callable[..., Tensor],
    reduce: Reduce,
    arguments: dict[str, Any],
    dy: Tensor,
    axis: ExampleAxis,
    wanted: frozenset[str],
) -> Forms:
    """Scale and shift of a norm layer, each small enough to hold as ``[N, *shape]``.

    Cost: one more normalisation and one product of the size of the input.
    """

    def scale() -> Form:
        bare = {**arguments, "weight": None}
        if bare.get("use_input_stats"):  # instance norm would update its running statistics again
            bare |= {"running_mean": None, "running_var": None}
        if "bias" in bare:
            bare["bias"] = None
        return Explicit(reduce(function(**bare).mul_(dy), axis, arguments["weight"]))

    return made(wanted, weight=scale, bias=lambda: Explicit(reduce(dy, axis, arguments["bias"])))


def _layer_norm_forms(
    arguments: dict[str, Any], dy: Tensor, axis: ExampleAxis, wanted: frozenset[str]
) -> Forms:
    """``weight[n] = sum_t (x[n, t] - mean[n, t]) dy[n, t] / deviation[n, t]``, ``bias`` that of dy.

    Cost: a difference, two products and two sums of the size of the input, without another
    normalisation: the statistics are those of the forward pass.
    """
    count, shape = axis.count(dy), arguments["normalized_shape"]
    values = math.prod(shape)
    # [N, T, D] with T positions of D entries each
    dy = axis.reshaped(dy, -1, values)

    def scale() -> Form:
        x = axis.reshaped(arguments["input"], -1, values)
        mean, inverse = (axis.reshaped(v, -1, 1) for v in arguments[KEPT])
        product = inverse.transpose(1, 2) @ (x - mean).mul_(dy)  # [N, 1, D]
        return Explicit(product.view(count, *shape))

    return made(wanted, weight=scale, bias=lambda: Explicit(dy.sum(1).view(count, *shape)))


def _layer_norm_with_statistics(*args: Any, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The output, and the mean and one over the deviation of each position."""
    named = {**LAYER_NORM, **dict(zip(LAYER_NORM, args, strict=False)), **kwargs}
    output, mean, deviation = torch.native_layer_norm(*named.values())
    return output, (mean, deviation)


def _batch_norm_forms(
    arguments: dict[str, Any], dy: Tensor, axis: ExampleAxis, wanted: frozenset[str]
) -> Forms:
    """Gradients of scale and shift, ``[N, C]``, and of the input, ``[rows, C, *positions]``.

    Rows that belong to one example are added up. Cost: one pass over the input and the gradient,
    which gives the gradient of the input, too; a few where there are few positions.
    """
    x = arguments["input"]
    few = is_cpu(x.device) and x.shape[2:].numel() < FEW
    gradients = (_by_formula if few else _rows_as_channels)(arguments, x, dy, wanted)
    return {
        name: Explicit(
            gradients[name].view(x.shape)
            if name == "input"
            else axis.added_up(gradients[name].view(x.shape[0], -1))
        )
        for name in wanted
    }


def _rows_as_channels(
    arguments: dict[str, Any], x: Tensor, dy: Tensor, wanted: frozenset[str]
) -> dict[str, Tensor]:
    """Torch's own backward pass, every channel of every row a channel of its own."""
    rows, channels = x.shape[:2]
    as_channels = (1, rows * channels, *x.shape[2:])
    affine = arguments["weight"] is not None
    per_channel = [arguments[k] for k in ("running_mean", "running_var", *["weight"] * affine)]
    repeated = torch.stack(per_channel)[:, None].expand(-1, rows, -1).reshape(2 + affine, -1)
    mean, variance, *weight = repeated.unbind()
    names = ("input", "weight", "bias")
    gradients = torch.ops.aten.native_batch_norm_backward(
        dy.reshape(as_channels), x.reshape(as_channels), weight[0] if affine else None,
        mean, variance, None, None, False,
        arguments["eps"], [name in wanted for name in names],
    )  # fmt: skip
    return dict(zip(names, gradients, strict=True))


def _by_formula(
    arguments: dict[str, Any], x: Tensor, dy: Tensor, wanted: frozenset[str]
) -> dict[str, Tensor]:
    """``dy (x - mean) / deviation`` and so on: torch's pass is slow for planes of few positions."""
    rows, positions = x.shape[0], x.shape[2:].numel()
    weight, mean = arguments["weight"], arguments["running_mean"]
    factor = torch.rsqrt(arguments["running_var"] + arguments["eps"])
    per_channel = torch.stack((mean, factor if weight is None else factor * weight))
    # One entry for each of the few positions: torch is slow where the last axis is short.
    mean, slope = per_channel[:, :, None].expand(-1, -1, positions).reshape(2, -1).unbind()
    x, dy = x.reshape(rows, -1), dy.reshape(rows, -1)  # [rows, C * positions]
    ones = x.new_ones(positions)
    ways = {
        "input": lambda: dy * slope,
        "weight": lambda: (x - mean).mul_(dy).view(rows, -1, positions) @ ones * factor,
        "bias": lambda: dy.view(rows, -1, positions) @ ones,
    }
    return {name: way() for name, way in ways.items() if name in wanted}


def _over_channels(values: Tensor, axis: ExampleAxis, parameter: Tensor) -> Tensor:
    """``[rows, C, *positions]`` to ``[N, C]``."""
    by_example = axis.examples_first(values)  # [N, rows, C, *positions]
    return by_example.transpose(1, 2).flatten(2).sum(2)


def _over_trailing_axes(values: Tensor, axis: ExampleAxis, parameter: Tensor) -> Tensor:
    """``[*positions, *shape]`` to ``[N, *shape]``."""
    by_example = axis.examples_first(values)  # [N, 1, *positions, *shape]
    return by_example.flatten(1, -1 - parameter.dim()).sum(1)


def _in_eval_mode(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """Batch norm in eval mode: in training mode its statistics would mix the examples."""
    return axis.dim == 0 and not arguments["training"]


def _on_the_batch_axis(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    return axis.dim == 0


def _batched_instances(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """Batched input ``[N, C, *positions]`` with its examples on axis 0."""
    return axis.dim == 0 and arguments["input"].dim() > 2


def _before_the_normalised_axes(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """Examples along an axis that the parameters do not span."""
    return axis.dim < arguments["input"].dim() - len(arguments["normalized_shape"])


def _rule(
    function: Callable[..., Tensor],
    arguments: dict[str, Any],
    reduce: Reduce,
    accepts: Callable[[dict[str, Any], ExampleAxis], bool],
) -> Rule:
    weights = tuple(name for name in ("weight", "bias") if name in arguments)
    forms = partial(_norm_forms, function, reduce)
    return layer(function.__name__, function, arguments, forms, accepts, weights=weights)


NORMALIZATIONS = (
    layer(
        "batch_norm",
        F.batch_norm,
        {
            "input": None, "running_mean": None, "running_var": None, "weight": None,
            "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5,
        },
        _batch_norm_forms,
        _in_eval_mode,
        fused="input",
    ),
    _rule(
        F.instance_norm,
        {
            "input": None, "running_mean": None, "running_var": None, "weight": None,
            "bias": None, "use_input_stats": True, "momentum": 0.1, "eps": 1e-5,
        },
        _over_channels,
        _batched_instances,
    ),
    _rule(
        F.group_norm,
        {"input": None, "num_groups": 1, "weight": None, "bias": None, "eps": 1e-5},
        _over_channels,
        _on_the_batch_axis,
    ),
    layer(
        "layer_norm",
        F.layer_norm,
        LAYER_NORM,
        _layer_norm_forms,
        _before_the_normalised_axes,
        keeping=_layer_norm_with_statistics,
    ),
    _rule(
        F.rms_norm,
        {"input": None, "normalized_shape": None, "weight": None, "eps": None},
        _over_trailing_axes,
        _before_the_normalised_axes,
    ),
)  # fmt: skip
