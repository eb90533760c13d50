"""A word to who waits: said only where a command takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import click

MOMENT = 3.0  # seconds


@contextmanager
def told_if_long(text: str) -> Iterator[Timer]:
    """Within it, say on stderr what goes on, once, if it takes longer than ``MOMENT``."""
    timer = Timer(MOMENT, click.echo, [text], {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()
