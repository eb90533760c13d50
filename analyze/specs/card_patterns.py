"""Patterns for steps in a run card, which may come from a stranger: those that end soon."""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MOST_REPEATS = 2  # one for the step, one for the epoch; each more multiplies the time by a length
PLAIN = (
    codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN, codes.AT, codes.CATEGORY, codes.RANGE,
)  # fmt: skip
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)


def why_slow(pattern: str) -> str:
    """Why a pattern may take for ever on a short name; empty where it cannot.

    It may have two repetitions, of single characters: work then grows with the third power of a
    name's length, and names are cut.
    """
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression ({error})"
    repeats = [0]
    problem = _walk(parsed, repeats, within=False)
    if not problem and repeats[0] > MOST_REPEATS:
        problem = f"it has {repeats[0]} repetitions"
    return problem


def _walk(parsed: Any, repeats: list[int], *, within: bool) -> str:
    """The first construct that is not allowed; repetitions are counted."""
    for code, argument in parsed:
        if code in PLAIN:
            continue
        if code is codes.SUBPATTERN and not within:
            if problem := _walk(argument[3], repeats, within=False):
                return problem
        elif code in REPEATS and not within:
            repeats[0] += 1
            if problem := _walk(argument[2], repeats, within=True):
                return problem
        else:
            return f"it has {str(code).lower().replace('_', ' ')}"
    return ""
