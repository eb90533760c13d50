"""A deep copy of a model that computes with its own parameters.

``copy.deepcopy`` takes functions and weak references as they are, so that a hook, a replaced
``forward`` or a lambda that closed over the model would go on to use the weights of the original.
Those are made anew over the copied modules. ``foreign`` finds what is still shared when the copy
runs.
"""

from __future__ import annotations

import copy
import types
import weakref
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from analyze.errors import InputError, out_of_memory
from analyze.gradients.model.reachable import (
    CONTAINERS,
    holders,
    in_a_library,
    named_globals,
    original_of_compiled,
    reachable,
)


class Foreign(NamedTuple):
    """A tensor that a copy must not compute with."""

    name: str  # in the copied model
    tensor: Tensor  # kept, so that nothing else comes to lie in its memory
    stale: bool = False  # whether the copied model had computed it from its parameters


class Origin(NamedTuple):
    """The model that a copy was made of, and tensors that the copy must not compute with."""

    model: nn.Module | None  # None where the copy has got other weights
    foreign: list[Foreign]


_origins: WeakKeyDictionary[nn.Module, Origin] = WeakKeyDictionary()


def origin_of(model: nn.Module) -> Origin | None:
    """The origin of a copy; None for a model that is no copy."""
    return _origins.get(model)


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of a model, which stays as it is, its closures and weak references with it.

    ``memo`` maps the ``id`` of an object to what stands for its copy.

    Raises:
        InputError: the model holds something that cannot be copied, or the copy has a parameter or
            buffer in common with it.
    """
    kept = {} if memo is None else memo
    reached = reachable(model)
    objects = {key: value for key, (_, value) in reached.items()}
    memory = _Memo(objects, holders(model, reached), kept)
    foreign = [
        Foreign(name, tensor) for name, tensor in model.named_parameters() if id(tensor) not in kept
    ]
    for path, value in reached.values():
        if isinstance(value, Tensor) and value.grad_fn is not None and id(value) not in memory:
            memory[id(value)] = value.detach().clone()
            foreign.append(Foreign(_plain(path), memory[id(value)], stale=True))
    try:
        result = copy.deepcopy(model, memory)
    except InputError:
        raise
    except Exception as error:  # a model's own __deepcopy__ or a cached tensor may raise anything
        if out_of_memory(error):
            raise
        raise InputError(
            "the model cannot be copied, and measuring would change it",
            found=f"{type(model).__name__}: {error}",
            expected="a model that copy.deepcopy copies",
            fix="call model.train() then model.eval() first, or give a freshly built model",
        ) from error
    _refuse_shared(model, result)
    _origins[result] = Origin(model, foreign)
    return result


def copied_to_fill(model: nn.Module) -> nn.Module:
    """A copy that gets other weights: none of the model's own may take part in what it computes.

    Raises:
        InputError: as ``copied``.
    """
    result = copied(model)
    _origins[result] = _origins[result]._replace(model=None)
    return result


def made_eager(model: nn.Module) -> None:
    """Put the functions back that ``torch.compile`` wrapped in attributes of the modules."""
    for module in model.modules():
        attributes = vars(module)
        attributes.pop("_compiled_call_impl", None)
        for name, value in list(attributes.items()):
            original = original_of_compiled(value)
            if original is not None:
                attributes[name] = original


class _Memo(dict[int, Any]):
    """The memo of ``copy.deepcopy``, which makes copies of what that would take as it is.

    Args:
        reached: Everything the model reaches, by ``id``.
        holding: The ``id`` of what leads back to the model.
        copies: What is copied already.
    """

    def __init__(self, reached: dict[int, Any], holding: set[int], copies: dict[int, Any]) -> None:
        super().__init__(copies)
        self._reached = reached
        self._holding = holding

    def get(self, key: int, default: Any = None) -> Any:
        """The copy; made now for functions and weak references that lead back to the model."""
        value = self._reached.get(key)
        if key in self or value is None:
            return super().get(key, default)
        original = original_of_compiled(value)
        if original is not None:
            self[key] = copy.deepcopy(original, self)
        elif isinstance(value, types.FunctionType):
            # Other closures share a variable with one that holds the model, or keep something.
            if key in self._holding or (value.__closure__ and not in_a_library(value)):
                self._make_function(key, value)
        elif key not in self._holding:
            return default
        elif isinstance(value, types.MethodType) and id(value.__func__) in self._holding:
            function = copy.deepcopy(value.__func__, self)
            self[key] = types.MethodType(function, copy.deepcopy(value.__self__, self))
        elif isinstance(value, weakref.ref):
            self[key] = weakref.ref(copy.deepcopy(value(), self))
        return super().get(key, default)

    def _make_function(self, key: int, function: types.FunctionType) -> None:
        """Copy a function, with its own cells, defaults and globals where they hold the model."""
        cells = function.__closure__ or ()
        within = {
            name: value
            for name, value in named_globals(function).items()
            if id(value) in self._holding
        }
        space = function.__globals__ | within if within else function.__globals__
        made = types.FunctionType(
            function.__code__, space, function.__name__, None, tuple(map(self._cell, cells)) or None
        )
        self[key] = made
        made.__qualname__, made.__module__ = function.__qualname__, function.__module__
        made.__defaults__ = self._copied(function.__defaults__)
        made.__kwdefaults__ = self._copied(function.__kwdefaults__)
        for name, value in vars(function).items():
            setattr(made, name, self._copied(value))
        for name, value in within.items():
            space[name] = self._copied(value)
        for cell in cells:
            self._fill(cell)

    def _cell(self, cell: types.CellType) -> types.CellType:
        """The copy of a cell, which functions that share the cell share."""
        return self.setdefault(id(cell), types.CellType())

    def _fill(self, cell: types.CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # the cell is empty yet
            return
        self[id(cell)].cell_contents = self._copied(value)

    def _copied(self, value: Any) -> Any:
        """A copy of what holds the model, and of a plain container; anything else is shared."""
        if id(value) in self._holding:
            return copy.deepcopy(value, self)
        if type(value) not in (*CONTAINERS, tuple, types.SimpleNamespace):
            return value
        try:
            return copy.deepcopy(value, self)
        except Exception:  # a container of a lock or a file is no part of the model
            return value


def _plain(path: str) -> str:
    return path.replace(".__dict__", "")


def _refuse_shared(model: nn.Module, result: nn.Module) -> None:
    """Refuse a copy that has a tensor of the original: a change of the copy would change that."""
    originals = {id(t): n for n, t in (*model.named_parameters(), *model.named_buffers())}
    for _, tensor in (*result.named_parameters(), *result.named_buffers()):
        if id(tensor) in originals:
            raise InputError(
                "the model cannot be copied, and measuring would change it",
                found=f"its copy has the very {originals[id(tensor)]} of the model",
                expected="a copy.deepcopy with parameters and buffers of its own",
                fix="take __deepcopy__ out of that module's class, or let it copy",
            )
