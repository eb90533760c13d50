"""The environment of a process that has the device from the moment that it imports torch."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]


def environment(limit: int | None = None) -> dict[str, str]:
    """This process's environment, with the device and, in each of two, ``limit`` bytes of memory.

    Torch itself imports what is registered as its backend: so do the processes that it starts.
    """
    path = (str(PROJECT), str(HERE / "autoload"), os.environ.get("PYTHONPATH", ""))
    limits = {} if limit is None else {"PRETEND_LIMIT": str(limit)}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **limits}
