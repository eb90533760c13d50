"""Steps, epochs and tokens in the names of checkpoints, and the natural order of names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

CHECKPOINT_N = "name checkpoint-N"
LAST_INTEGER_RULE = "name, last integer"
# A number found by one of these may be an epoch: timm's checkpoint-12, torchvision's model_12.
WEAK_RULES = (CHECKPOINT_N, LAST_INTEGER_RULE)

# In the order in which they are tried; the last integer of a name is the last resort.
STEP_PATTERNS = (
    ("name step=N", re.compile(r"(?:global_?)?step[=_-]?(\d+)", re.IGNORECASE)),
    ("name iter_N", re.compile(r"iter(?:ation)?[=_-]?(\d+)", re.IGNORECASE)),
    ("name epN-baN", re.compile(r"ep\d+-ba(\d+)", re.IGNORECASE)),
    ("name checkpoint_EPOCH_N", re.compile(r"^checkpoint_\d+_(\d+)\.", re.IGNORECASE)),
    (CHECKPOINT_N, re.compile(r"^(?:checkpoint|ckpt)[_-](\d+)", re.IGNORECASE)),
)
EPOCH_PATTERNS = (
    ("name epoch=N", re.compile(r"epoch[=_-]?(\d+)", re.IGNORECASE)),
    ("name epN", re.compile(r"(?:^|[^a-z])ep[=_-]?(\d+)", re.IGNORECASE)),
    ("name checkpoint_N_STEP", re.compile(r"^checkpoint_(\d+)_\d+\.", re.IGNORECASE)),
)
TOKENS_PATTERNS = (
    ("name tokensN", re.compile(r"tokens?[=_-]?(\d+(?:\.\d+)?)([KMBT]?)(?![a-z])", re.IGNORECASE)),
    ("name NBT", re.compile(r"(?:^|[_-])(\d+(?:\.\d+)?)([KMBT])T(?![a-z])", re.IGNORECASE)),
)
# What says how far training was, wherever in a name it is.
PROGRESS_PATTERNS = tuple(p for _, p in (*STEP_PATTERNS, *EPOCH_PATTERNS, *TOKENS_PATTERNS))
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
# Not a part of a number with a decimal point, as metrics have: model-10-85.5.pt.
INTEGER = re.compile(r"(?<!\d)(?<!\d\.)\d+(?!\d|\.\d)")
ENDING = re.compile(r"\.(?:safetensors|pt|pth|bin|ckpt|pth\.tar)$", re.IGNORECASE)


def step_in_name(path: str) -> tuple[float | None, str]:
    """The step that a file's name gives and the rule that found it; folders count as well.

    An integer that no pattern explains is a step only where the name gives no epoch.
    """
    for part in reversed(PurePosixPath(path).parts):
        for rule, pattern in STEP_PATTERNS:
            if match := pattern.search(part):
                return float(match[1]), rule
    if epoch_in_name(path)[0] is None and (found := INTEGER.findall(PurePosixPath(path).stem)):
        return float(found[-1]), LAST_INTEGER_RULE
    return None, ""


def epoch_in_name(path: str) -> tuple[float | None, str]:
    """The epoch that a file's name gives and the rule that found it."""
    for part in reversed(PurePosixPath(path).parts):
        for rule, pattern in EPOCH_PATTERNS:
            if match := pattern.search(part):
                return float(match[1]), rule
    return None, ""


def tokens_in_name(path: str) -> tuple[float | None, str]:
    """The training tokens that a name gives, ``tokens4B`` or ``2BT``, and the rule."""
    for part in reversed(PurePosixPath(path).parts):
        for rule, pattern in TOKENS_PATTERNS:
            if match := pattern.search(ENDING.sub("", part)):
                return float(match[1]) * UNITS[match[2].upper()], rule
    return None, ""


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ``epoch_9`` before ``epoch_10``."""
    return tuple(
        (0, int(part)) if part.isdecimal() else (1, part.lower())
        for part in re.split(r"(\d+)", name)
        if part
    )
