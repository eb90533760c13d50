"""Tensors of torch that are no plain ones: sparse, nested, quantized, or of another class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PLAIN_CLASSES = (Tensor, nn.Parameter, nn.Buffer)


def oddity(tensor: Tensor) -> str:
    """What makes a tensor other than dense with values of its own; empty where nothing does.

    To be asked before anything else: even the shape of an odd tensor may raise an error.
    """
    if type(tensor) not in PLAIN_CLASSES:
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


def same_values(a: Any, b: Any) -> bool:
    """Whether two names have the same plain tensor."""
    if oddity(a) or oddity(b):
        return False
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def number_in(tensor: Tensor) -> Any:
    """The value of a plain tensor that has one; None for any other."""
    return tensor.item() if not oddity(tensor) and tensor.numel() == 1 else None
