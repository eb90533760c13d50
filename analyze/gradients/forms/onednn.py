"""Matrix products by oneDNN, which on some processors is a quarter faster than what torch takes.

Torch multiplies float32 matrices on a CPU by MKL, or what it was built with; convolutions go to
oneDNN. Its products are reached by the operator that torch's own compiler uses for linear layers.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from analyze.gradients.device.devices import on_cpu


def product(left: Tensor, right: Tensor) -> Tensor:
    """``[A, B] @ [B, C]`` in float32 on the CPU."""
    left, right = _plain(left), _plain(right)
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def _plain(matrix: Tensor) -> Tensor:
    """The matrix, copied where oneDNN would take a thousand times as long.

    It does where rows share entries, as windows of a signal that overlap do, and where neither the
    rows nor the columns lie together in memory. An axis of one entry may have any stride.
    """
    steps = zip(matrix.stride(), matrix.shape, strict=True)
    axes = sorted((step, size) for step, size in steps if size > 1)
    dense = not axes or axes[0][0] == 1
    apart = len(axes) < 2 or axes[1][0] >= axes[0][1]
    return matrix if dense and apart else matrix.contiguous()


def can_multiply(like: Tensor) -> bool:
    """Whether there is a product of matrices of this device and dtype."""
    return on_cpu(like) and like.dtype == torch.float32 and _is_there()


@cache
def _is_there() -> bool:
    """Whether this torch has the operator as it is called here."""
    left, right = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4)
    try:
        return torch.equal(product(left, right), left @ right)  # integers: nothing is rounded
    except (AttributeError, RuntimeError, TypeError):  # another version's operator, or none
        return False
