"""The one error that a user's mistake raises, and what it must say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial


class InputError(Exception):
    """A problem in what the user gave; never a bug in the tool.

    Args:
        what: One line: what is wrong.
        found: The value and the place where it was found; control characters, which names in a
            checkpoint may hold, are escaped.
        expected: The rule, and who imposes it.
        fix: Something to type.
    """

    def __init__(self, what: str, *, found: str, expected: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.found = printable(found)
        self.expected = printable(expected)
        self.fix = "\n".join(printable(line) for line in fix.split("\n"))

    def __reduce__(self) -> tuple[Callable[[str], InputError], tuple[str]]:
        """How it is made again in another process: exceptions forget their keyword arguments."""
        made = partial(type(self), found=self.found, expected=self.expected, fix=self.fix)
        return made, (self.what,)

    def __str__(self) -> str:
        facts = {"found": self.found, "expected": self.expected, "to fix": self.fix}
        lines = [self.what]
        lines += [f"  {label + ':':<10}{fact}" for label, fact in facts.items()]
        return "\n".join(lines)


class CheckpointError(InputError):
    """One checkpoint is at fault; the others may be measured without it."""


class RefusedError(CheckpointError):
    """A checkpoint that is whole, and is not read all the same; waiting would not help."""


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of those allowed.

    Raises:
        InputError: with the option's name.
    """
    if value not in allowed:
        raise bad_choice(name, value, f"one of {', '.join(allowed)}")


def bad_choice(name: str, value: object, expected: str) -> InputError:
    """What to say of an argument with a value that it cannot have."""
    return InputError(
        f"{name} has a value that it cannot have",
        found=repr(value),
        expected=expected,
        fix=f"leave --{name.replace('_', '-')} out for the default",
    )


def listed(items: list[str], limit: int = 12) -> str:
    """Items joined by commas; beyond ``limit`` only their number, for a readable message."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def printable(text: str) -> str:
    """Text that every file and terminal takes: no control characters, no broken encoding."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
