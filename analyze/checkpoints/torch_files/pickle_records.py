"""Objects in a pickle that are not made again: records of what was saved, which do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Stateful:
    """An object with a state that is taken as data."""

    def take(self, state: Any) -> None:
        """Take the state as it was saved."""
        raise NotImplementedError


class Record(Stateful):
    """An object of a trainer as data: its arguments and its state; it does nothing."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def take(self, state: Any) -> None:
        self.state = state


class Placeholder(Record, Mapping[Any, Any]):
    """An object of a class that is not known here: a dictionary of what was saved of it.

    That is its entries where it is a dictionary of sorts, else its attributes. Nothing of its class
    is imported or runs, and two are equal if they are one.
    """

    def __init__(self, name: str, *arguments: Any) -> None:
        super().__init__(name, *arguments)
        self.entries: dict[Any, Any] = {}  # that were set by key
        self.members: list[Any] = []  # that were appended

    @property
    def _fields(self) -> dict[Any, Any]:
        parts = self.state if type(self.state) is tuple else (self.state,)  # with slots a pair
        attributes = next((part for part in parts if type(part) is dict and part), {})
        return self.entries or attributes

    def __getitem__(self, key: Any) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    __hash__ = object.__hash__
    __eq__ = object.__eq__
