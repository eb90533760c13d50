"""Rows of a table looked up by the examples: embeddings, ``table[ids]``, ``index_select``.

Each example's gradient is the sum of ``dy`` over its positions, row by row of the table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.forms import ScatteredRows
from analyze.gradients.rules.rule import Call, Forms, Rule, layer


def _embedding_forms(
    arguments: dict[str, Any], dy: Tensor, axis: ExampleAxis, wanted: frozenset[str]
) -> Forms:
    """``weight[n, v]`` is the sum of ``dy`` over the positions of example n that looked up row v.

    Positions that hold ``padding_idx`` give no gradient, as in torch.
    """
    weight, padding = arguments["weight"], arguments["padding_idx"]
    rows = axis.examples_first(arguments["input"]).flatten(1)  # [N, T]
    dy = axis.examples_first(dy).flatten(1, -2)  # [N, T, D]
    if padding is not None:
        padding = padding % len(weight)  # may count from the end
        dy = dy.masked_fill((rows == padding)[..., None], 0.0)
    return {"weight": ScatteredRows(rows, dy, len(weight))}


def _indexed_forms(call: Call, dy: Tensor) -> Forms:
    """``input[n, v]``, the sum of ``dy`` over the positions of example n whose index is v."""
    table = call.weights["input"].tensor
    rows = call.axes["index"].examples_first(call.arguments["index"]).flatten(1)  # [N, T]
    values = call.output.examples_first(dy).reshape(*rows.shape, -1)  # [N, T, D]
    return {"input": ScatteredRows(rows % len(table), values, len(table), _as_matrix)}


def _as_matrix(table: Tensor) -> Tensor:
    return table.flatten(1) if table.dim() > 1 else table.unsqueeze(1)


def _embed(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """``F.embedding``, but ``max_norm`` renormalises a copy, not the weights that are measured."""
    if max_norm is not None:
        renormalised = weight.detach().clone()
        torch.embedding_renorm_(renormalised, input.flatten().contiguous(), max_norm, norm_type)
        weight = renormalised + weight - weight.detach() if weight.requires_grad else renormalised
    return F.embedding(input, weight, padding_idx, scale_grad_by_freq=scale_grad_by_freq)


def _sums_over_examples_only(arguments: dict[str, Any], axis: ExampleAxis) -> bool:
    """No gradients divided by frequencies, which are counted over the batch."""
    return not arguments["scale_grad_by_freq"]


def _looks_up_rows(call: Call) -> bool:
    """Whether the index is a tensor of row numbers, by position or along the first axis."""
    index = call.arguments["index"]
    return (
        isinstance(index, Tensor)
        and index.dtype in (torch.int64, torch.int32)
        and call.arguments.get("dim", 0) == 0
        and call.axes.get("index") == call.output
        and set(call.weights) == {"input"}
    )


LOOKUPS = (
    layer(
        "embedding",
        F.embedding,
        {
            "input": None, "weight": None, "padding_idx": None, "max_norm": None,
            "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False,
        },
        _embedding_forms,
        _sums_over_examples_only,
        weights=("weight",),
        run=_embed,
    ),
    Rule(
        "getitem", (Tensor.__getitem__,), {"input": None, "index": None},
        ("input",), ("index",), _indexed_forms, _looks_up_rows, ("index",),
    ),
    Rule(
        "index_select", (torch.index_select, Tensor.index_select),
        {"input": None, "dim": None, "index": None},
        ("input",), ("index",), _indexed_forms, _looks_up_rows, ("index",),
    ),
)  # fmt: skip
