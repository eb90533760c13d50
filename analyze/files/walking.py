"""The files below a directory, however deep: Python's own walk calls itself for each directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LONGEST_PATH = 3800  # bytes; systems open none of 4096, with the name of a file in it


def walk(
    top: Path, closed: list[Path] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each directory with the names of the directories and of the files in it, top down, sorted.

    Directories that the caller removes from the list are not looked into. Links are not followed,
    directories of too long paths are left out, and so are those that may not be read, which are
    added to ``closed``.
    """
    waiting = [top]
    while waiting:
        place = waiting.pop()
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else files).append(entry.name)
        except PermissionError:
            if closed is not None:
                closed.append(place)
            continue
        except OSError:  # gone meanwhile
            continue
        folders.sort()
        yield place, folders, sorted(files)
        waiting += [
            place / name for name in reversed(folders)
            if not (place / name).is_symlink() and not is_too_long(place / name)
        ]  # fmt: skip


def is_too_long(path: Path) -> bool:
    """Whether files in a directory of this path may be impossible to open."""
    return len(os.fsencode(path)) > LONGEST_PATH


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
