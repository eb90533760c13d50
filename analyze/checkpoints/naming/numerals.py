"""Numbers as people write them in names: ``00500``, ``10k``, ``1.5M``, ``1e4``, ``1,000``."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LARGEST = 1 << 53  # above it not every whole number is a float
LONGEST = 40  # characters; no number below the largest needs more

# Words that may follow a number without a separator: 3epoch, 10ksteps.
WORDS = r"(?i:steps?|iter(?:ation)?s?|it|updates?|epochs?|ep|ba|tokens?|rank|best|last|final)"
WHOLE_WORD = re.compile(rf"{WORDS}(?![a-z])|(?i:step|epoch|ep|iter)[=_-]?[0-9]")
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])"
_POWER = r"[0-9]{1,2}(?:\.[0-9]+)?[eE]\+?[0-9]{1,2}(?![0-9])"
NUMERAL = rf"(?:{_GROUPED}|{_POWER}|[0-9]++(?:\.[0-9]++)?)"
# A unit ends the number; a small b may as well be a variant: step_1a, step_1b.
UNIT = rf"(?:[kKmMB](?=[^A-Za-z0-9]|$|{WORDS}(?![a-z])))"
PLAIN = re.compile(rf"({NUMERAL})([kKmMbBtT]?)")
# Thousands in groups, or two numbers: 1_500.
UNDERSCORED = re.compile(r"[1-9][0-9]{0,2}(?:_[0-9]{3})+(?![0-9A-Za-z.])")


def ascii_digits(text: str) -> str:
    """A text of the same length with digits of any script as those of ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def value_of(numeral: str, unit: str = "") -> float | None:
    """The value of a numeral with its unit; None where no float has it exactly."""
    if len(numeral) > LONGEST:
        return None
    exact = Fraction(re.sub("[,_]", "", numeral)) * UNITS[unit.upper()]
    return float(exact) if exact < LARGEST else None


def number_in(text: str) -> float | None:
    """The value of a text that is a number, perhaps with a unit; None for other text."""
    match = PLAIN.fullmatch(ascii_digits(text.strip()))
    return None if match is None else value_of(match[1], match[2])
