"""What dictionaries, lists and the like hold, each looked at once, however many others it is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CONTAINERS = (Mapping, list, tuple, set, frozenset)


def things_inside(value: Any) -> Iterator[Any]:
    """The values inside nested dictionaries, lists and the like; each container is read once."""
    seen: set[int] = set()
    left = [value]
    while left:
        inner = left.pop()
        if not isinstance(inner, CONTAINERS):
            yield inner
        elif id(inner) not in seen:
            seen.add(id(inner))
            left += [*inner, *inner.values()] if isinstance(inner, Mapping) else inner


def containers_of(values: Iterable[Any], kinds: tuple[type, ...]) -> set[int]:
    """The identities of the containers that hold things of these kinds, at any depth.

    Each container is read once, however many others it stands in.
    """
    outer: dict[int, list[int]] = {}  # by a container, those that it stands in
    holding: list[int] = []
    left = list({id(value): value for value in values if isinstance(value, CONTAINERS)}.values())
    seen = {id(value) for value in left}
    while left:
        container = left.pop()
        inside = [*container, *container.values()] if isinstance(container, Mapping) else container
        for inner in inside:
            if isinstance(inner, kinds):
                holding.append(id(container))
            elif isinstance(inner, CONTAINERS):
                outer.setdefault(id(inner), []).append(id(container))
                if id(inner) not in seen:
                    seen.add(id(inner))
                    left.append(inner)
    marked: set[int] = set()
    while holding:
        if (place := holding.pop()) not in marked:
            marked.add(place)
            holding += outer.get(place, ())
    return marked
