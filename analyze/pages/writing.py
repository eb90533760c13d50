"""Pages as files: whole or not there, and in the place of pages of ours only."""

from __future__ import annotations

from pathlib import Path

from analyze.errors import InputError
from analyze.files.whole import write_whole

PAGE = "index.html"


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
