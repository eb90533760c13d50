"""Everything that can be reached from a model's modules: attributes, containers, closures, methods.

Modules of Python, classes and the libraries' own functions are no part of a model. A global is,
where the code of a function that was reached names it.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

LIBRARIES = frozenset({"torch", "numpy", *sys.stdlib_module_names}) - {"__main__"}
ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType)
CONTAINERS = (dict, list, set, deque, OrderedDict, defaultdict)  # that change
SEQUENCES = (list, tuple, set, frozenset, deque)
Named = tuple[str, Any]


def reachable(model: nn.Module) -> dict[int, Named]:
    """Every object that can be reached from a model, by ``id``, with the path to it."""
    reached: dict[int, Named] = {id(model): ("", model)}
    waiting: deque[Named] = deque(reached.values())
    while waiting:
        path, value = waiting.popleft()
        for step, child in children(value):
            if id(child) not in reached and not isinstance(child, ATOMS):
                name = f"{path}.{step}" if path else step
                reached[id(child)] = name, child
                waiting.append((name, child))
    return reached


def holders(model: nn.Module, reached: dict[int, Named]) -> set[int]:
    """The ``id`` of everything from which a module, parameter or buffer of the model is reached."""
    reached_from: dict[int, list[int]] = {}
    for key, (_, value) in reached.items():
        for _, child in children(value):
            reached_from.setdefault(id(child), []).append(key)
    held = {id(module) for module in model.modules()}
    held |= {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    waiting = list(held)
    while waiting:
        above = [key for key in reached_from.get(waiting.pop(), []) if key not in held]
        held.update(above)
        waiting += above
    return held


def children(value: Any) -> Iterator[Named]:
    """What an object holds, with the step that leads there."""
    if isinstance(value, nn.Module):
        yield from _of_module(value)
    elif isinstance(value, Tensor):
        yield from vars(value).items()
    elif isinstance(value, dict):
        yield from ((str(key), child) for key, child in list(value.items()))
    elif isinstance(value, SEQUENCES):
        yield from ((str(k), child) for k, child in enumerate(list(value)))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield from (("__self__", value.__self__), ("__func__", value.__func__))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, weakref.ref):
        yield "()", value()
    elif not in_a_library(type(value)) or isinstance(value, types.SimpleNamespace):
        yield from list(getattr(value, "__dict__", {}).items())


def original_of_compiled(value: Any) -> Callable[..., Any] | None:
    """The function that ``torch.compile`` wrapped; None where it wrapped none."""
    if isinstance(value, nn.Module | type):
        return None
    try:
        original = vars(value).get("_torchdynamo_orig_callable")
    except TypeError:  # an object without attributes of its own
        return None
    return original if callable(original) else None


def in_a_library(value: Any) -> bool:
    """Whether a class or function is of torch, NumPy or Python itself."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] in LIBRARIES


def named_globals(function: types.FunctionType) -> dict[str, Any]:
    """The globals that the code of a function of the user's own names, nested code included."""
    if in_a_library(function):
        return {}
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    within = function.__globals__
    return {name: within[name] for name in names if name in within}


def _of_module(module: nn.Module) -> Iterator[Named]:
    for name, value in list(vars(module).items()):
        if name in ("_modules", "_parameters", "_buffers"):
            yield from list(value.items())
        elif name != "_compiled_call_impl":
            yield name, value


def _of_function(function: types.FunctionType) -> Iterator[Named]:
    original = original_of_compiled(function)
    if original is not None:
        yield "_torchdynamo_orig_callable", original
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the cell is empty yet
            continue
    yield from ((str(k), v) for k, v in enumerate(function.__defaults__ or ()))
    yield from (function.__kwdefaults__ or {}).items()
    yield from list(vars(function).items())
    yield from _own_globals(function)


def _own_globals(function: types.FunctionType) -> Iterator[Named]:
    """Modules, tensors and the same file's functions that a function's code names."""
    for name, value in named_globals(function).items():
        is_function = isinstance(value, types.FunctionType)
        nearby = is_function and value.__module__ == function.__module__
        if nearby or isinstance(value, nn.Module | Tensor):
            yield name, value
