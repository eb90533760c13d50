"""Values that trainers save beside tensors, by the names that pickles have for them.

Options, paths, dates and the like are records that hold what was saved; nothing is made of them.
Numbers and arrays of numpy are made again from their bytes by stand-ins for what numpy's pickles
call. The originals trust the pickle: a type that calls itself one of objects, with flags that deny
it, makes numpy follow the bytes of an array as addresses, and so does whatever looks at its
elements. Here a type is its code alone, and only numbers, truth values and texts are made of bytes;
anything else is held without its content.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from analyze.checkpoints.torch_files.pickle_records import Record, Stateful
from analyze.checkpoints.torch_files.plain_pickle import Name, as_key

PLAIN_TYPE = re.compile(r"[biufcSU]\d+")
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since
RECORDS = (
    "argparse.Namespace", "types.SimpleNamespace",
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"{module}.{pure}{flavour}Path" for module in ("pathlib", "pathlib._local")
      for pure in ("Pure", "") for flavour in ("Posix", "Windows")),
    *(f"builtins.{name}" for name in ("list", "dict", "int", "float", "bool", "str", "slice",
                                      "range")),
    "mmengine.logging.history_buffer.HistoryBuffer",  # MMEngine need not be installed
)  # fmt: skip


class _NumpyType(Stateful):
    """Stands in for ``numpy.dtype``: the code and the order of bytes, no flags, no fields."""

    def __init__(self, code: object, *_: object) -> None:
        self.dtype: np.dtype[Any] | None = None
        if isinstance(code, str) and PLAIN_TYPE.fullmatch(code):
            self.dtype = np.dtype(code)

    def take(self, state: tuple[Any, ...]) -> None:
        """Take the order of bytes, and nothing else of the state."""
        order = state[1]
        if self.dtype is not None and isinstance(order, str) and order in "<>":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _NumpyArray(Stateful):
    """Stands in for ``numpy.ndarray``; ``values`` is None for an array of no plain type."""

    values: np.ndarray | None = None

    def take(self, state: tuple[Any, ...]) -> None:
        """Take version, shape, type, order and bytes, as ``ndarray.__reduce__`` gives them."""
        _, shape, kind, by_columns, content = state
        if type(shape) is not tuple or not all(type(size) is int for size in shape):
            raise TypeError("a shape that is no tuple of numbers")
        dtype = kind.dtype if isinstance(kind, _NumpyType) else None
        if dtype is not None:
            flat = np.frombuffer(_as_bytes(content), dtype)
            self.values = flat.reshape(shape, order="F" if by_columns else "C")


def _scalar(kind: object, content: object = b"") -> object:
    """Stands in for numpy's ``scalar``: a number of Python; None where its type is not plain."""
    dtype = kind.dtype if isinstance(kind, _NumpyType) else None
    return None if dtype is None else np.frombuffer(_as_bytes(content), dtype, 1)[0].item()


def names() -> dict[str, Name]:
    """Builders of plain values, by the names under which these are saved."""
    made: dict[str, Callable[..., Any]] = {name: partial(Record, name) for name in RECORDS}
    made |= {
        "collections.OrderedDict": _ordered,
        "collections.defaultdict": lambda _factory=None: {},  # which nothing asks for
        "collections.Counter": lambda counts=None: dict(counts) if type(counts) is dict else {},
        "builtins.set": _set, "builtins.frozenset": lambda items=(): frozenset(_set(items)),
        "builtins.complex": _complex, "builtins.bytearray": _bytes, "_codecs.encode": _bytes,
        "builtins.bytes": lambda *_: b"",  # the content of an array without elements
        "numpy.dtype": _NumpyType, "numpy.ndarray": _NumpyArray,
        **{f"{module}.scalar": _scalar for module in NUMPY_MODULES},
        # It makes an empty array, to be filled.
        **{f"{module}._reconstruct": lambda *_: _NumpyArray() for module in NUMPY_MODULES},
    }  # fmt: skip
    return {name: Name(name, build) for name, build in made.items()}


def with_arrays(value: Any) -> Any:
    """A value, or a dictionary of values, with arrays of numpy for their stand-ins.

    Raises:
        ValueError: an array of no plain type.
    """
    if isinstance(value, dict):
        return {name: with_arrays(inner) for name, inner in value.items()}
    if not isinstance(value, _NumpyArray):
        return value
    if value.values is None:
        raise ValueError("an array that is not of numbers, truth values or texts")
    return value.values


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((as_key(key), value) for key, value in _list(pairs))


def _set(items: Any = ()) -> set[Any]:
    return {as_key(item) for item in _list(items)}


def _complex(real: Any, imaginary: Any = 0.0) -> complex:
    if not all(type(part) in (int, float) for part in (real, imaginary)):
        raise TypeError("a complex number of no numbers")
    return complex(real, imaginary)


def _bytes(content: Any = b"", encoding: Any = "latin1") -> bytes:
    """Bytes as protocol 2 writes them, as a text of Latin-1; other codecs can take for ever."""
    if type(content) is bytes:
        return content
    if type(content) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError("bytes in another encoding")
    return content.encode("latin-1")


def _list(items: Any) -> Any:
    if type(items) not in (list, tuple):
        raise TypeError("items that are no list")
    return items


def _as_bytes(content: object) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError(f"an array of numbers made of {type(content).__name__}")
    return content
