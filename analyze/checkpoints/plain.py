"""Which tensors are plain: dense, with values of their own; a torch file may hold others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = (Tensor, nn.Parameter, nn.Buffer)


def oddity(tensor: Tensor) -> str:
    """What makes a tensor no plain one, in a word; empty where nothing does.

    To be asked first: even the shape of some of them raises an error.
    """
    if type(tensor) not in KINDS:
        return "nested" if tensor.is_nested else type(tensor).__name__
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "without values"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return "sparse"
    return str(tensor.dtype) if str(tensor.dtype).startswith("torch.bits") else ""
