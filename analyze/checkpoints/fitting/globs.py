"""Few globs that mean some names and no others."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

DEEPEST = 32  # modules inside one another that are looked at


def globs_for(names: Sequence[str], kept: Sequence[str]) -> list[list[str]]:
    """Globs that match all ``names`` and nothing of ``kept``: by ancestors or by endings.

    The fewest first; characters that mean something in a glob are escaped.
    """
    return sorted([_by_ancestors(names, kept), _by_endings(names, kept)], key=len)


def _by_ancestors(names: Iterable[str], kept: Sequence[str]) -> list[str]:
    """``loss.*``: the highest module that has nothing to be kept."""
    taken = {path for key in kept for path in _above(key)}
    paths = {name: next((path for path in _above(name) if path not in taken), "") for name in names}
    globs = (f"{_escaped(path)}*" if path else _escaped(name) for name, path in paths.items())
    return list(dict.fromkeys(globs))


def _above(name: str) -> Iterator[str]:
    """The modules around a name, the outermost first."""
    parts = name.split(".")[:DEEPEST]
    return accumulate(f"{part}." for part in parts[:-1])


def _by_endings(names: Iterable[str], kept: Sequence[str]) -> list[str]:
    """``*.attn.mask``: what names with the same last part have in common at their end."""
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[2], []).append(name.split("."))
    globs = []
    for group in groups.values():
        ending = common_ending(group)
        glob = f"*.{_escaped('.'.join(ending))}"
        shared = len(group) > 1 and len(ending) < min(map(len, group))
        if shared and not any(fnmatch.fnmatchcase(key, glob) for key in kept):
            globs.append(glob)
        else:
            globs += [_escaped(".".join(parts)) for parts in group]
    return globs


def common_ending(paths: Iterable[Sequence[str]]) -> list[str]:
    """The parts at their end that all paths have."""
    backwards = [list(reversed(path)) for path in paths]
    return list(reversed(os.path.commonprefix(backwards)))  # noqa: RUF071 - of lists


def _escaped(text: str) -> str:
    """As a glob that means the text itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
