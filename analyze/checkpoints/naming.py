"""Steps and epochs in the names of checkpoint files, and the natural order of names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# In the order in which they are tried; the last integer of a name is the last resort.
STEP_PATTERNS = (
    ("name step=N", re.compile(r"(?:global_?)?step[=_-]?(\d+)", re.IGNORECASE)),
    ("name iter_N", re.compile(r"iter(?:ation)?[=_-]?(\d+)", re.IGNORECASE)),
    ("name epN-baN", re.compile(r"ep\d+-ba(\d+)", re.IGNORECASE)),
    ("name checkpoint-N", re.compile(r"^(?:checkpoint|ckpt)[_-](\d+)", re.IGNORECASE)),
)
EPOCH_PATTERNS = (
    ("name epoch=N", re.compile(r"epoch[=_-]?(\d+)", re.IGNORECASE)),
    ("name epN", re.compile(r"(?:^|[^a-z])ep[=_-]?(\d+)", re.IGNORECASE)),
)
LAST_INTEGER = re.compile(r"(\d+)(?!.*\d)")


def step_in_name(path: str) -> tuple[float | None, str]:
    """The step that a file's name gives and the rule that found it; folders count as well.

    An integer that no pattern explains is a step only where the name gives no epoch.
    """
    for part in reversed(PurePosixPath(path).parts):
        for rule, pattern in STEP_PATTERNS:
            if match := pattern.search(part):
                return float(match[1]), rule
    if epoch_in_name(path)[0] is None and (match := LAST_INTEGER.search(PurePosixPath(path).stem)):
        return float(match[1]), "name, last integer"
    return None, ""


def epoch_in_name(path: str) -> tuple[float | None, str]:
    """The epoch that a file's name gives and the rule that found it."""
    for part in reversed(PurePosixPath(path).parts):
        for rule, pattern in EPOCH_PATTERNS:
            if match := pattern.search(part):
                return float(match[1]), rule
    return None, ""


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ``epoch_9`` before ``epoch_10``."""
    return tuple(
        (0, int(part)) if part.isdecimal() else (1, part.lower())
        for part in re.split(r"(\d+)", name)
        if part
    )
