"""What the names in a torch file stand for besides tensors: values that trainers save beside them.

Options, paths, dates and the like are records that hold what was saved; nothing is made of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from analyze.checkpoints.torch_files.numpy_values import stand_ins
from analyze.checkpoints.torch_files.plain_pickle import Name, Record, as_key

RECORDS = (
    "argparse.Namespace", "types.SimpleNamespace",
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"{module}.{pure}{flavour}Path" for module in ("pathlib", "pathlib._local")
      for pure in ("Pure", "") for flavour in ("Posix", "Windows")),
    *(f"builtins.{name}" for name in ("list", "dict", "int", "float", "bool", "str", "slice",
                                      "range")),
    "mmengine.logging.history_buffer.HistoryBuffer",  # MMEngine need not be installed
)  # fmt: skip


def names() -> dict[str, Name]:
    """By the names under which they are saved."""
    made: dict[str, Callable[..., Any]] = {name: partial(Record, name) for name in RECORDS}
    made |= {
        "collections.OrderedDict": _ordered,
        "collections.defaultdict": lambda _factory=None: {},  # which nothing asks for
        "collections.Counter": lambda counts=None: dict(counts) if type(counts) is dict else {},
        "builtins.set": _set, "builtins.frozenset": lambda items=(): frozenset(_set(items)),
        "builtins.complex": _complex, "builtins.bytearray": _bytes, "_codecs.encode": _bytes,
    }  # fmt: skip
    return {name: Name(name, build) for name, build in (made | stand_ins()).items()}


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
