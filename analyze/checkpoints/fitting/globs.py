"""As few globs as possible that match some names and no others."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from glob import escape
from itertools import accumulate

DEEPEST = 32  # modules inside one another


def globs_for(names: Sequence[str], kept: Sequence[str]) -> list[list[str]]:
    """Globs that match all ``names`` and nothing of ``kept``: by ancestors or by endings.

    The fewest first; characters that mean something in a glob are escaped.
    """
    return sorted([_by_ancestors(names, kept), _by_endings(names, kept)], key=len)


def _by_ancestors(names: Iterable[str], kept: Sequence[str]) -> list[str]:
    """Globs like ``loss.*``, of the highest modules without a name to be kept."""
    taken = {path for key in kept for path in _above(key)}
    paths = {name: next((path for path in _above(name) if path not in taken), "") for name in names}
    globs = (f"{escape(path)}*" if path else escape(name) for name, path in paths.items())
    return list(dict.fromkeys(globs))


def _above(name: str) -> Iterator[str]:
    """The modules around a name, the outermost first."""
    parts = name.split(".")[:DEEPEST]
    return accumulate(f"{part}." for part in parts[:-1])


def _by_endings(names: Iterable[str], kept: Sequence[str]) -> list[str]:
    """Globs like ``*.attn.mask``, of the common endings of names with the same last part."""
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[2], []).append(name.split("."))
    globs = []
    for group in groups.values():
        backwards = [parts[::-1] for parts in group]
        ending = os.path.commonprefix(backwards)[::-1]  # noqa: RUF071 - of lists
        glob = f"*.{escape('.'.join(ending))}"
        shared = len(group) > 1 and len(ending) < min(map(len, group))
        if shared and not any(fnmatch.fnmatchcase(key, glob) for key in kept):
            globs.append(glob)
        else:
            globs += [escape(".".join(parts)) for parts in group]
    return globs
