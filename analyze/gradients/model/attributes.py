"""Sets a model's modules back to what they were: attributes, hooks, buffers and containers.

All of it is recorded at one moment: a hook that was installed at a first pass must not outlive the
attribute that remembers it.
"""

from __future__ import annotations

import copy
import operator
import types
from collections.abc import Container, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from analyze.gradients.model.reachable import CONTAINERS, in_a_library, reachable

# Dictionaries of torch's, on every module, that a forward pass may change.
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
MEMBERS = ("_parameters", "_buffers", "_modules")
Place = tuple["_Container", Any]  # a dictionary, and a key in it


class Attributes:
    """Everything that forward passes may leave on the modules of a model, as it is now.

    The model is in eval mode; its containers are set back in place, to the same members.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [_Module(module) for module in model.modules()]
        of_torch = {id(held) for module in self._modules for held in module.dictionaries}
        values = [value for _, value in reachable(model).values()]
        self._containers = [_Container(c) for c in _containers(values) if id(c) not in of_torch]
        cells = {id(c): c for v in values if _is_own_function(v) for c in v.__closure__ or ()}
        self._cells = [_Cell(cell) for cell in cells.values()]
        self._buffers: list[_Buffer] = []
        self.add_buffers(b for b in model.buffers() if not b.is_inference())

    def restore(self, hooks: Container[int] = ()) -> None:
        """Set it all back, but for the hooks of these handles' ids that were added since."""
        for module in self._modules:
            module.restore(hooks)
        for container in self._containers:
            container.restore()
        for cell in self._cells:
            cell.restore()
        for buffer in self._buffers:
            buffer.restore()

    def add_buffers(self, tensors: Iterable[Tensor]) -> None:
        """Treat further tensors, which the modules hold as parameters, as buffers."""
        places: dict[int, list[Place]] = {}
        for module in self._modules:
            for member, place in module.places:
                places.setdefault(id(member), []).append(place)
        self._buffers += [_Buffer(tensor, places.get(id(tensor), [])) for tensor in tensors]

    def drop_parameters(self) -> None:
        """Set no parameters back any more."""
        self._buffers = [b for b in self._buffers if not isinstance(b.tensor, nn.Parameter)]

    def accept_buffers(self) -> None:
        """Take the buffers' values as they are now for those to set back to."""
        for buffer in self._buffers:
            buffer.accept()


def _containers(values: Iterable[Any]) -> Iterator[Any]:
    """The containers among some objects, and the attributes of objects of the user's own."""
    for value in values:
        if type(value) in CONTAINERS:
            yield value
        elif isinstance(value, nn.Module | Tensor | types.FunctionType):
            continue
        elif not in_a_library(type(value)) or isinstance(value, types.SimpleNamespace):
            attributes = getattr(value, "__dict__", None)
            if type(attributes) is dict:
                yield attributes


def _is_own_function(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and not in_a_library(value)


class _Module:
    """The attributes of a module, its own and torch's."""

    def __init__(self, module: nn.Module) -> None:
        self._own = vars(module)
        self._values = dict(self._own)
        self._count = len(self._own)
        hooks = [self._own[name] for name in HOOKS]
        members = [self._own[name] for name in MEMBERS]
        self.dictionaries = [*hooks, *members]
        self._no_hooks = [held for held in hooks if not held]
        self._some_hooks = [_Container(held) for held in hooks if held]
        self._members = [_Container(held) for held in members if held]
        self._no_members = [held for held in members if not held]

    @property
    def places(self) -> Iterator[tuple[Any, Place]]:
        """What the module's dictionaries hold, each with the dictionary and its key in it."""
        return ((member, (held, key)) for held in self._members for key, member in held.members)

    def restore(self, hooks: Container[int]) -> None:
        self._own.update(self._values)
        if len(self._own) > self._count:
            for name in [name for name in self._own if name not in self._values]:
                del self._own[name]
        for held in filter(None, self._no_hooks):
            for key in [key for key in held if key not in hooks]:
                del held[key]
        for held in filter(None, self._no_members):
            held.clear()
        for container in self._some_hooks:
            container.restore(hooks)
        for container in self._members:
            container.restore()


class _Container:
    """A container and the members that it had."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._members = copy.copy(value)
        self._dictionary = isinstance(value, dict)
        self._kept = list(value.values() if self._dictionary else value)
        self._keys = list(value) if self._dictionary else []

    def restore(self, besides: Container[int] = ()) -> None:
        if self._same():
            return
        value = self._value
        if self._dictionary:
            added = {k: v for k, v in value.items() if k in besides}
            value.clear()
            value.update(self._members)
            value.update(added)
        else:
            value.clear()
            (value.update if isinstance(value, set) else value.extend)(self._members)

    @property
    def members(self) -> list[tuple[Any, Any]]:
        """The keys of a dictionary, and what it had under them."""
        return list(self._members.items())

    def put(self, key: Any, member: Any) -> None:
        """Replace what a dictionary has under a key, and is set back to."""
        self._value[key] = self._members[key] = member
        self._kept[self._keys.index(key)] = member

    def _same(self) -> bool:
        value = self._value
        if len(value) != len(self._kept):
            return False
        if not self._dictionary:
            return all(map(operator.is_, value, self._kept))
        return self._keys == list(value) and all(map(operator.is_, value.values(), self._kept))


class _Cell:
    """A variable that closures share."""

    def __init__(self, cell: types.CellType) -> None:
        self._cell = cell
        try:
            self._contents = [cell.cell_contents]
        except ValueError:  # the cell is empty yet
            self._contents = []

    def restore(self) -> None:
        for value in self._contents:
            self._cell.cell_contents = value


class _Buffer:
    """A buffer and the values that it had; a pass that counts or averages writes others into it.

    Another buffer with the old values then takes its place: the graph of that pass may need it.
    """

    def __init__(self, tensor: Tensor, places: list[Place]) -> None:
        self.tensor = tensor
        self._places = places
        self.accept()

    def accept(self) -> None:
        self._values = self.tensor.detach().clone()
        self._version = self.tensor._version

    def restore(self) -> None:
        if self.tensor._version == self._version:
            return
        fresh = self._values.clone()
        if isinstance(self.tensor, nn.Parameter):
            fresh = nn.Parameter(fresh, self.tensor.requires_grad)
        self.tensor, self._version = fresh, fresh._version
        for held, key in self._places:
            held.put(key, fresh)
