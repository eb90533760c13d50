"""The checkpoints that the user chooses: by a name, a glob, or a slice."""

from __future__ import annotations

import fnmatch
import re

from analyze.checkpoints.checkpoint import Checkpoint, NoCheckpointsError
from analyze.errors import counted

SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")


def select(checkpoints: list[Checkpoint], selection: str) -> list[Checkpoint]:
    """The checkpoints that a name, a glob on names, or a slice such as ``::2`` or ``-3:`` picks.

    A name of a checkpoint is no glob, even if it looks like one: ``[run 1] step=2.pt``.

    Raises:
        NoCheckpointsError: nothing is left.
    """
    if exact := [c for c in checkpoints if c.name == selection]:
        return exact
    if match := SLICE.match(selection):
        start, stop, step = (int(g) if g else None for g in match.groups())
        picked = checkpoints[start:stop:step] if step != 0 else []
    else:
        picked = [c for c in checkpoints if fnmatch.fnmatch(c.name, selection)]
    if not picked:
        raise NoCheckpointsError(
            "the selection leaves no checkpoint",
            found=f"--checkpoints {selection!r} of {counted(len(checkpoints), 'checkpoint')}",
            expected=f"a glob or slice that matches names like {checkpoints[0].name}",
            fix=_escaped(checkpoints, selection) or "--checkpoints '*', or --checkpoints ::2",
        )
    return picked


def _escaped(checkpoints: list[Checkpoint], selection: str) -> str:
    """The option with the glob's brackets escaped; empty where that picks nothing either."""
    glob = selection.replace("[", "[[]")
    if glob == selection or not any(fnmatch.fnmatch(c.name, glob) for c in checkpoints):
        return ""
    return f"--checkpoints '{glob}', as [ begins a set of characters in a glob"
