"""Eval mode, which some modules take for more than a flag."""

from __future__ import annotations

import torch
from torch import nn

from analyze.errors import listed

MERGED = (
    "measured as eval() leaves them, which changes the parameters (as LoRA does that merges): "
    "{names}; what was merged into them has no gradient of its own"
)


def set_to_eval(model: nn.Module, notes: list[str]) -> bool:
    """Put a model in eval mode, by way of training mode.

    Args:
        model: Changed in place.
        notes: Told where that changes parameters.

    Returns:
        Whether it is to be done again before every pass: where modules do more than set a flag
        then, unless they change parameters. Weights that are merged and taken apart again drift
        by rounding.
    """
    model.train()
    own_modes = any(
        type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval
        for m in model.modules()
    )
    before = [p.detach().clone() for p in model.parameters()] if own_modes else []
    model.eval()
    merged = [
        name
        for (name, parameter), old in zip(model.named_parameters(), before, strict=own_modes)
        if not torch.equal(parameter, old)
    ]
    if merged:
        notes.append(MERGED.format(names=listed(merged)))
    return own_modes and not merged
