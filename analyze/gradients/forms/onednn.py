"""Matrix products by oneDNN, which on some processors is a quarter faster than what torch takes.

Torch multiplies float32 matrices on a CPU by MKL, or what it was built with; convolutions go to
oneDNN. Its products are reached by the operator that torch's own compiler uses for linear layers.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def product(left: Tensor, right: Tensor) -> Tensor:
    """``[A, B] @ [B, C]`` in float32 on the CPU."""
    left, right = _with_rows_apart(left), _with_rows_apart(right)
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def _with_rows_apart(matrix: Tensor) -> Tensor:
    """The matrix, copied where its rows share entries: windows of a signal that overlap do."""
    (inner, size), (outer, _) = sorted(zip(matrix.stride(), matrix.shape, strict=True))
    return matrix.contiguous() if outer < inner * size else matrix


def can_multiply(like: Tensor) -> bool:
    """Whether there is a product of matrices of this device and dtype."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and _is_there()


@cache
def _is_there() -> bool:
    """Whether this torch has the operator as it is called here."""
    left, right = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4)
    try:
        return torch.equal(product(left, right), left @ right)  # integers: nothing is rounded
    except (AttributeError, RuntimeError, TypeError):  # another version's operator, or none
        return False
