"""Embeddings: ``y[..., :] = weight[input[...], :]``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from analyze.gradients.forms import Form, ScatteredRows
from analyze.gradients.layout import ExampleLayout
from analyze.gradients.rules.rule import Rule


def embedding_forms(
    arguments: dict[str, Any], dy: Tensor, layout: ExampleLayout, wanted: set[str]
) -> dict[str, Form]:
    """``weight[n, v]`` is the sum of ``dy`` over the positions of example n that looked up row v.

    Positions that hold ``padding_idx`` give no gradient, as in torch.
    """
    weight, padding = arguments["weight"], arguments["padding_idx"]
    rows = layout.examples_first(arguments["input"]).flatten(1)  # [N, T]
    dy = layout.examples_first(dy).flatten(1, -2)  # [N, T, D]
    if padding is not None:
        padding = padding % len(weight)  # may count from the end
        dy = dy.masked_fill((rows == padding)[..., None], 0.0)
    return {"weight": ScatteredRows(rows, dy, len(weight))}


def _sums_over_examples_only(arguments: dict[str, Any], layout: ExampleLayout) -> bool:
    """Frequencies are counted over the batch; ``max_norm`` rewrites the table while it reads."""
    return not arguments["scale_grad_by_freq"] and arguments["max_norm"] is None


EMBEDDINGS = (
    Rule(
        function=F.embedding,
        name="embedding",
        arguments={
            "input": None, "weight": None, "padding_idx": None, "max_norm": None,
            "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False,
        },
        weights=("weight",),
        forms=embedding_forms,
        accepts=_sums_over_examples_only,
    ),
)  # fmt: skip
