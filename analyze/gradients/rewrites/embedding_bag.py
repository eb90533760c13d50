"""Embedding bags: a look-up of rows, then their sum, mean or maximum in each bag."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def embedding_bag(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """``F.embedding_bag``, ``[B, T]`` or ``[L]`` with offsets to ``[B, D]``.

    Entries that hold ``padding_idx`` count for nothing, neither in the sum nor in the number that
    a mean is divided by; an empty bag is zero.
    """
    rows = F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    counts = torch.ones_like(input, dtype=rows.dtype)  # [B, T] or [L]
    if padding_idx is not None:
        counts = (input != padding_idx % len(weight)).to(rows.dtype)
    if input.dim() == 1:
        assert offsets is not None, "one-dimensional bags have offsets"
        starts = offsets[:-1] if include_last_offset else offsets
        rows, counts, per_sample_weights = _padded(starts, rows, counts, per_sample_weights)
    if mode == "max":
        masked = rows.masked_fill(counts[..., None] == 0, -torch.inf)
        largest = masked.max(1).values
        return torch.where(counts.sum(1, keepdim=True) == 0, torch.zeros_like(largest), largest)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None]
    total = (rows * counts[..., None]).sum(1)  # [B, D]
    return total / counts.sum(1, keepdim=True).clamp_min(1.0) if mode == "mean" else total


def _padded(
    starts: Tensor, rows: Tensor, counts: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bags that lie one after the other as ``[B, longest]``, what is missing counted as nothing."""
    ends = torch.cat((starts[1:], starts.new_tensor([len(rows)])))
    lengths = ends - starts
    longest = max(1, int(lengths.max())) if len(lengths) else 1
    place = starts[:, None] + torch.arange(longest, device=starts.device)  # [B, longest]
    inside = place < ends[:, None]
    place = place.clamp_max(max(0, len(rows) - 1))
    return rows[place], counts[place] * inside, None if weights is None else weights[place]
