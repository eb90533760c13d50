"""What processes that measure send to the one that was started: pairs of a kind and a content."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

MESSAGE, DONE, FAILED = "message", "done", "failed"  # the last: why there is no result
Tell = Callable[[Any], None]


def received(pipe: Connection) -> tuple[str | None, Any]:
    """The kind and content of what comes next; None and None where the process has ended."""
    try:
        kind, content = pipe.recv()
    except (EOFError, OSError):
        return None, None
    return kind, content
