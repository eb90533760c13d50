"""What a layout of checkpoints is, and what comes of opening a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.state import Weights


@dataclass(frozen=True)
class Opened:
    """A checkpoint that was opened.

    Args:
        format: ``torch``, ``safetensors``, ...
        state: What was saved: nested dictionaries with tensors, or ``Stored`` ones.
        files: What it is made of.
        load: Reads the tensors of some weights, on the CPU, and those inside of extra states.
    """

    format: str
    state: Mapping[str, Any]
    files: tuple[Path, ...]
    load: Callable[[Weights], dict[str, Any]]


def first_bytes(path: Path) -> bytes:
    """What a file begins with; nothing where it cannot be read, which its reader will say."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


@dataclass(frozen=True)
class Layout:
    """One way in which a checkpoint lies on disk: a file, or a directory of several.

    Args:
        name: In the ``format`` that scan shows.
        on_disk: What it looks like, as messages and ``docs/checkpoints.md`` say it.
        open: Opens the file or directory; takes whether pickles may run code.
        endings: Of the file's name; none where the checkpoint is a directory.
        begins: The first bytes of a file that is one whatever its name.
        mark: The name of a file that makes its directory one checkpoint.
        parts: Names of the other files of that checkpoint; None where the whole directory is it.
        last: The file of the directory that is written last.
    """

    name: str
    on_disk: str
    open: Callable[[Path, bool], Opened]
    endings: tuple[str, ...] = ()
    begins: re.Pattern[bytes] | None = None
    mark: re.Pattern[str] | None = None
    parts: re.Pattern[str] | None = None
    last: str = ""

    def parts_among(self, files: Iterable[str]) -> set[str]:
        """Which files of its directory belong to the checkpoint."""
        marks = [pattern for pattern in (self.mark, self.parts) if pattern is not None]
        return {name for name in files if any(pattern.search(name) for pattern in marks)}
