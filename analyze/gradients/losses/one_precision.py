"""Constants of a user's loss in the precision of the output: float32 as they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only


class OnePrecision(TorchFunctionMode):
    """Repeats a call that torch refuses for its mixed precisions with all of it in the widest.

    Class weights are float32 tensors, and in the proof the output is float64. What is written to
    in place stays as it is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the call, once more where that helps."""
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            dtypes = {t.dtype for t in tree_leaves((args, kwargs)) if _is_float(t)}
            if len(dtypes) < 2 or getattr(func, "__name__", "").endswith("_"):
                raise
            widest = max(dtypes, key=lambda dtype: torch.finfo(dtype).bits)
            return func(
                *tree_map_only(Tensor, _as(widest), args),
                **tree_map_only(Tensor, _as(widest), kwargs),
            )


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _as(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor
