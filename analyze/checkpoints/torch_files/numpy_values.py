"""Numbers and arrays of numpy in a torch file, made again from their bytes.

Stand-ins for what numpy's pickles call. The originals trust the pickle: a type that calls itself
one of objects, with flags that deny it, makes numpy follow the bytes of an array as addresses, and
so does whatever looks at its elements. Here a type is its code alone, and only numbers, truth
values and texts are made of bytes; anything else is held without its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from analyze.checkpoints.torch_files.plain_pickle import Stateful

PLAIN_TYPE = re.compile(r"[biufcSU]\d+")
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since


class NumpyType(Stateful):
    """Stands in for ``numpy.dtype``: the code and the order of bytes, no flags, no fields."""

    def __init__(self, code: object, *_: object) -> None:
        self.dtype: np.dtype[Any] | None = None
        if isinstance(code, str) and PLAIN_TYPE.fullmatch(code):
            self.dtype = np.dtype(code)

    def take(self, state: tuple[Any, ...]) -> None:
        """The order of bytes; whatever else is said is not believed."""
        order = state[1]
        if self.dtype is not None and isinstance(order, str) and order in "<>":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class NumpyArray(Stateful):
    """Stands in for ``numpy.ndarray``; ``values`` is None for an array of no plain type."""

    values: np.ndarray | None = None

    def take(self, state: tuple[Any, ...]) -> None:
        """Version, shape, type, order and bytes, as ``ndarray.__reduce__`` gives them."""
        _, shape, kind, by_columns, content = state
        if type(shape) is not tuple or not all(type(size) is int for size in shape):
            raise TypeError("a shape that is no tuple of numbers")
        dtype = kind.dtype if isinstance(kind, NumpyType) else None
        if dtype is not None:
            flat = np.frombuffer(_as_bytes(content), dtype)
            self.values = flat.reshape(shape, order="F" if by_columns else "C")


def scalar(kind: object, content: object = b"") -> object:
    """Stands in for numpy's ``scalar``: a number of Python; None for one of no plain type."""
    dtype = kind.dtype if isinstance(kind, NumpyType) else None
    return None if dtype is None else np.frombuffer(_as_bytes(content), dtype, 1)[0].item()


def stand_ins() -> dict[str, Callable[..., Any]]:
    """The stand-ins by the names of the originals."""
    return {
        "numpy.dtype": NumpyType, "numpy.ndarray": NumpyArray,
        "builtins.bytes": lambda *_: b"",  # the content of an array without elements
        **{f"{module}.scalar": scalar for module in MODULES},
        # It makes an empty array, to be filled.
        **{f"{module}._reconstruct": lambda *_: NumpyArray() for module in MODULES},
    }  # fmt: skip


def with_arrays(value: Any) -> Any:
    """A value, or a dictionary of values, with arrays of numpy for their stand-ins.

    Raises:
        ValueError: an array of no plain type.
    """
    if isinstance(value, dict):
        return {name: with_arrays(inner) for name, inner in value.items()}
    if not isinstance(value, NumpyArray):
        return value
    if value.values is None:
        raise ValueError("an array that is not of numbers, truth values or texts")
    return value.values


def _as_bytes(content: object) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError(f"an array of numbers made of {type(content).__name__}")
    return content
