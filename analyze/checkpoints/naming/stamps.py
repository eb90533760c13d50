"""Dates and times in names, which are no steps: ``20240501_235500``, ``2024-05-01T23-55``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

_DATE = (
    r"(?P<year>19[7-9][0-9]|20[0-9]{2})(?P<dash>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=dash)"
    r"(?P<day>0[1-9]|[12][0-9]|3[01])"
)
_TIME = (
    r"(?P<hour>[01][0-9]|2[0-3])(?P<colon>[-_:.h]?)(?P<minute>[0-5][0-9])"
    r"(?:(?:(?P=colon)|m)(?P<second>[0-5][0-9])s?)?"
)
_CLOCK = r"(?:[01][0-9]|2[0-3])([-_:.h])[0-5][0-9](?:\1|m)[0-5][0-9]s?"
_MONTH = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)

# Dates with a year, which order checkpoints.
DATED = re.compile(
    rf"(?<![0-9])(?<![0-9]\.){_DATE}(?:(?:[-T_ .@]{{0,3}}|/(?=[0-9]{{2}}[-:_.h])){_TIME})?"
    r"(?:\.[0-9]+)?(?![0-9])"
)
# Seconds since 1970, perhaps with parts of one; a round number is none.
UNIX = re.compile(
    r"(?<![0-9])(?<![0-9]\.)(?!1[0-9]{3}000000)(?P<seconds>1[0-9]{9})"
    r"(?P<parts>\.[0-9]+|[0-9]{3}|[0-9]{6}|[0-9]{9})?(?![0-9])"
)
# Dates without a year, or with one that could be a day, which do not.
UNDATED = (
    re.compile(rf"(?<![A-Za-z]){_MONTH}[-_ ]?[0-9]{{1,2}}(?:[-_ ,]+(?:19|20)[0-9]{{2}})?"
               rf"(?:[-_ T]+{_CLOCK})?(?![0-9])"),
    re.compile(r"(?<![0-9])[0-3]?[0-9]([-.])[01]?[0-9]\1(?:19|20)[0-9]{2}(?![0-9])"),
    re.compile(r"(?<![0-9])[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[-_T]"
               r"(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9])?(?![0-9])"),
    # Not a part of more numbers: month, day, hour and minute.
    re.compile(rf"(?<![0-9])(?<![0-9][-_:.]){_CLOCK}(?![0-9])(?!\1[0-9])"),
)  # fmt: skip


def find_stamps(
    text: str, is_labelled: Callable[[str], bool]
) -> tuple[list[tuple[int, int]], float | None]:
    """Spans of dates and times in a path, and the last time with a year in seconds since 1970.

    Digits are no date where ``is_labelled`` tells from the text before them that they are a step
    or an epoch: ``step_20240501``.
    """
    spans: list[tuple[int, int]] = []
    last = None
    for pattern in (DATED, UNIX, *UNDATED):
        for match in pattern.finditer(text):
            start, stop = match.span()
            if any(start < b and a < stop for a, b in spans):
                continue
            if match[0].isdecimal() and is_labelled(text[:start]):
                continue
            spans.append((start, stop))
            if pattern in (DATED, UNIX):
                seconds = _of_date(match) if pattern is DATED else _of_clock(match)
                last = last if seconds is None else seconds
    return spans, last


def _of_date(match: re.Match[str]) -> float | None:
    parts = [int(match[k] or 0) for k in ("year", "month", "day", "hour", "minute", "second")]
    year, month, day, hour, minute, second = parts
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:  # the 30th of February
        return None


def _of_clock(match: re.Match[str]) -> float:
    return float(f"{match['seconds']}.{(match['parts'] or '').lstrip('.') or 0}")
