"""The record of a checkpoint layout, and that of an opened checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.state import Weights


@dataclass(frozen=True)
class Opened:
    """A checkpoint that was opened; its tensors may still be in its files."""

    format: str  # ``torch``, ``safetensors``, ...
    state: Mapping[str, Any]  # nested dictionaries with tensors, or ``Stored`` ones
    files: tuple[Path, ...]
    load: Callable[[Weights], dict[str, Any]]  # reads tensors, and extra states, to the CPU


def first_bytes(path: Path) -> bytes:
    """The beginning of a file; empty where it cannot be read, which its reader reports."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


@dataclass(frozen=True)
class Layout:
    """One way in which a checkpoint lies on disk: a file, or a directory of several."""

    name: str  # as in the ``format`` that scan shows
    on_disk: str  # its files in words, for messages and ``docs/checkpoints.md``
    open: Callable[[Path, bool], Opened]  # takes the path, and whether pickles may run code
    endings: tuple[str, ...] = ()  # of the file's name; none where it is a directory
    begins: re.Pattern[bytes] | None = None  # first bytes of a file in it, whatever its name
    mark: re.Pattern[str] | None = None  # name of a file that makes its directory one checkpoint
    parts: re.Pattern[str] | None = None  # names of its other files; None: the whole directory
    last: str = ""  # name of the file that is written last
    listed: Callable[[Path], frozenset[str]] | None = None  # what an index in the directory names

    def parts_among(self, folder: Path, files: Iterable[str]) -> set[str]:
        """The files of its directory that belong to the checkpoint."""
        marks = [pattern for pattern in (self.mark, self.parts) if pattern is not None]
        names = frozenset() if self.listed is None else self.listed(folder)
        return {f for f in files if f in names or any(pattern.search(f) for pattern in marks)}
