"""Files that are whole wherever they are there; pages that replace only pages of ours."""

from __future__ import annotations

import os
from pathlib import Path

from analyze.errors import InputError

PAGE = "index.html"


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path`` that takes its place once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def generator(command: str) -> str:
    """The element by which a page of ours is known."""
    return f'<meta name="generator" content="analyze {command}">'


def write_page(page: Path, html: str) -> None:
    """Write the page in one step; what UTF-8 has no bytes for becomes a question mark."""
    write_whole(page, html.encode(errors="replace"))


def refuse_foreign(page: Path, command: str) -> None:
    """Not to replace a page that is something else.

    Raises:
        InputError: naming the page.
    """
    if page.exists() and generator(command) not in page.read_text("utf-8", errors="replace"):
        raise InputError(
            f"the {'report' if command == 'report' else 'comparison'} would replace another page",
            found=f"{page}, which analyze {command} did not write",
            expected="an empty directory, one that does not exist, or an older one of its own",
            fix="--output DIR, another directory",
        )
