"""Files and directories that the user may not read, and the message about them."""

from __future__ import annotations

import os
from pathlib import Path

from analyze.errors import InputError
from analyze.files.present import is_there


def may_be_listed(path: Path) -> bool:
    """Whether a directory may be read; true of what is none."""
    try:
        with os.scandir(path):
            return True
    except PermissionError:
        return False
    except OSError:
        return True


def barrier(path: Path) -> str:
    """The words ``, as DIRECTORY may not be entered`` where that is why a path is not there."""
    try:
        os.stat(path)  # noqa: PTH116 - whatever its name
    except PermissionError:
        return f", as far as can be seen: no permission to enter {_closed(path)}"
    except (OSError, ValueError):
        return ""
    return ""


def _closed(path: Path) -> Path:
    """The nearest directory above a path that can be seen."""
    for folder in path.absolute().parents:
        if is_there(folder):
            return folder
    return path.parent


def not_permitted(path: str | Path) -> InputError:
    """The error that a path may not be read."""
    return InputError(
        "a file or directory may not be read",
        found=f"no permission to read {path}",
        expected="read permission for the user who runs this program, and to enter what it is in",
        fix=f"ls -ld {path}, then chmod u+rX, or ask its owner; or give another one",
    )
