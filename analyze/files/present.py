"""Whether a file is there, whatever its name: one that comes out of a file may be no name."""

from __future__ import annotations

import os
from pathlib import Path

# Path.exists and its like raise where a name is longer than the file system takes.


def is_there(path: Path) -> bool:
    """Whether there is such a file or directory; what cannot be a name is none."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether there is such a file; what cannot be a name is none."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is such a directory; what cannot be a name is none."""
    return os.path.isdir(path)  # noqa: PTH112
