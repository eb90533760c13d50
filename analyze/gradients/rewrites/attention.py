"""Multi-head attention: torch's own function, made to call its parts in the open."""

from __future__ import annotations

from types import FunctionType
from typing import Any


def opened(function: Any) -> FunctionType:
    """A functional written in Python whose parts a function mode sees.

    Such a function first offers itself to the mode whenever one is active; called again under the
    mode it would offer itself for ever. A copy of it whose globals say that nothing overrides torch
    functions goes straight to its body.
    """

    def nothing_overrides(*tensors: Any) -> bool:
        return False

    hidden = {n: nothing_overrides for n in function.__globals__ if "has_torch_function" in n}
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **hidden},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
