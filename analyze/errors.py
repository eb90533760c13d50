"""The one error that a user's mistake raises, and what it must say."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Callable, Iterable
from functools import partial

MOST_CHARACTERS = 4000  # of a fact in a message


class InputError(Exception):
    """A problem in what the user gave; never a bug in the tool.

    Args:
        what: One line: what is wrong.
        found: The value and the place where it was found; control characters, which names in a
            checkpoint may hold, are escaped, and what no screen holds is left out in the middle.
        expected: The rule, and who imposes it.
        fix: Something to type.
    """

    def __init__(self, what: str, *, found: str, expected: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.found = within_a_screen(found)
        self.expected = within_a_screen(expected)
        self.fix = "\n".join(within_a_screen(line) for line in fix.split("\n"))

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


def out_of_memory(error: BaseException) -> bool:
    """Whether it was raised for want of memory: by Python, the system, or torch on any device."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    words = ("allocate memory", "not enough memory", "out of memory", "unable to allocate")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def first_line(error: BaseException) -> str:
    """The first line of what an error says that is not blank; its class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def described(error: BaseException) -> str:
    """An error by its class and the first line of what it says."""
    kind, said = type(error).__name__, first_line(error)
    return kind if said == kind else f"{kind}: {said}"


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


def unknown(what: str, found: str, known: Iterable[str], fix: str) -> InputError:
    """What to say of a name that is none of those known, in their order."""
    return InputError(
        what, found=found, expected=f"one of {listed(list(known)) or 'none'}", fix=fix
    )


def like(name: str, known: Iterable[str]) -> list[str]:
    """Up to four of the names known that are close to a name that is not, the closest first."""
    return difflib.get_close_matches(name, list(known), n=4)


def within_a_screen(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text that can be printed; of what is longer than a screen the beginning and the end."""
    if len(text) <= most:
        return printable(text)
    head, tail = most * 3 // 4, most // 8
    left_out = len(text) - head - tail
    return (
        f"{printable(text[:head])} ... ({left_out} characters more) ... {printable(text[-tail:])}"
    )


def printable(text: str) -> str:
    """Text that every file and terminal takes: no control characters, no broken encoding."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
