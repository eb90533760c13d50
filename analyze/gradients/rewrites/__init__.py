"""Functionals replaced by an equivalent that calls its parts where the engine sees them.

Attention, recurrent layers and embedding bags use several weights inside one call. Their
equivalents are written with calls that rules know; the values are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.nn import functional as F

from analyze.gradients.rewrites.attention import opened
from analyze.gradients.rewrites.embedding_bag import embedding_bag
from analyze.gradients.rewrites.recurrent import PACKED, RECURRENT, takes_packed_sequences

REWRITES: dict[Callable[..., Any], Callable[..., Any]] = {
    F.multi_head_attention_forward: opened(F.multi_head_attention_forward),
    F.embedding_bag: embedding_bag,
    **RECURRENT,
}


def rewritten(function: Callable[..., Any], args: Sequence[Any]) -> Callable[..., Any] | None:
    """The function to call instead of ``function``; None if that itself."""
    if takes_packed_sequences(function, args):
        return PACKED[function]
    return REWRITES.get(function)


__all__ = ["REWRITES", "rewritten", "takes_packed_sequences"]
