"""The error that a user's mistake raises, and words for its message."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

MOST_CHARACTERS = 1200  # of one fact in a message
FEW = 5  # entries of a list, in a message or as lines; then how many more there are
CHOICES = 12  # that are all listed where a name has to be one of them


@dataclass
class Shortened:
    """What messages showed in part within a ``with shortened()``."""

    keep: bool  # whether the whole of it is kept
    any: bool = False
    whole: list[str] = field(default_factory=list)

    def add(self, whole: Callable[[], str]) -> None:
        """Note that a text was shortened; the whole of it is made only where it is kept."""
        self.any = True
        if self.keep:
            self.whole.append(whole())


_shortened = Shortened(keep=False)


@contextmanager
def shortened(keep: bool) -> Iterator[Shortened]:
    """Within it, note which lists and facts messages show in part, and keep the whole of them."""
    global _shortened  # noqa: PLW0603 - messages are made everywhere, at any depth
    before, _shortened = _shortened, Shortened(keep)
    try:
        yield _shortened
    finally:
        _shortened = before


class InputError(Exception):
    """A problem in the user's input; never a bug in the tool.

    Control characters in the facts are escaped, as names in a checkpoint may hold some; facts that
    are longer than a screen lose their middle.

    Args:
        what: The problem, in one line.
        found: The wrong value and its place.
        expected: The rule, and who imposes it.
        fix: Something to type.
    """

    def __init__(self, what: str, *, found: str, expected: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.found = within_a_screen(found)
        self.expected = within_a_screen(expected)
        self.fix = "\n".join(map(within_a_screen, fix.split("\n")))

    def __reduce__(self) -> tuple[Callable[[str], InputError], tuple[str]]:
        """The recipe for another process: pickled exceptions forget their keyword arguments."""
        made = partial(type(self), found=self.found, expected=self.expected, fix=self.fix)
        return made, (self.what,)

    def __str__(self) -> str:
        facts = {"found": self.found, "expected": self.expected, "to fix": self.fix}
        lines = [self.what]
        lines += [f"  {label + ':':<10}{fact}" for label, fact in facts.items()]
        return "\n".join(lines)


class CheckpointError(InputError):
    """One checkpoint is at fault; the others can be measured without it."""


class RefusedError(CheckpointError):
    """A checkpoint is complete and refused all the same; waiting would not help."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of Python, the system, or torch on any device."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    words = ("allocate memory", "not enough memory", "out of memory", "unable to allocate")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def misplaced(error: BaseException) -> bool:
    """Whether an error says that tensors of two devices met, a bug of whoever made them."""
    return isinstance(error, RuntimeError) and "same device" in str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank, or its class without a message."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def described(error: BaseException) -> str:
    """An error as its class and the first line of its message."""
    kind, said = type(error).__name__, first_line(error)
    return kind if said == kind else f"{kind}: {said}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise an InputError for a value that is not allowed, with the option's name."""
    if value not in allowed:
        raise bad_choice(name, value, f"one of {', '.join(allowed)}")


def bad_choice(name: str, value: object, expected: str) -> InputError:
    """The error for an argument with a value that it cannot have."""
    return InputError(
        f"{name} has a value that it cannot have",
        found=repr(value),
        expected=expected,
        fix=f"leave --{name.replace('_', '-')} out for the default",
    )


def listed(items: Sequence[str], limit: int = FEW) -> str:
    """Items joined by commas; beyond ``limit`` only their number, for a readable message.

    ``--details`` has all.
    """
    shown = ", ".join(items[:limit])
    if len(items) <= limit:
        return shown
    _shortened.add(lambda: "\n".join(map(printable, items)))
    return f"{shown} and {len(items) - limit} more"


def few(entries: Sequence[str], limit: int = FEW) -> list[str]:
    """The first entries of a list of lines, and how many more there are; ``--details`` has all."""
    if len(entries) <= limit:
        return list(entries)
    _shortened.add(lambda: "\n".join(entries))
    return [*entries[:limit], f"and {len(entries) - limit} more"]


def told_once(reasons: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Reasons by the name they are given for, each once: with a sentence on further names.

    Reasons are equal where they differ by the name that stands in them only. The sentence is empty
    where there is no further name.
    """
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(without_name(reason, name), []).append(name)
    return {
        first: (
            reasons[first],
            f"the same for {counted(len(others), 'further checkpoint')}: {listed(others, 4)}"
            if others
            else "",
        )
        for first, *others in groups.values()
    }


def without_name(reason: str, name: str) -> str:
    """A reason by which those of other names are the same."""
    return reason.replace(name, "\0")


def choices(names: Sequence[str]) -> str:
    """What a name may be: all of up to ``CHOICES`` names, else the first few."""
    return listed(names, CHOICES if len(names) <= CHOICES else FEW)


def unknown(what: str, found: str, known: Iterable[str], fix: str) -> InputError:
    """The error for a name that is not known; it lists the known names, those like it first."""
    names = list(known)
    close = [name for word in re.findall(r"[^\s'\"=,()]+", found) for name in like(word, names)]
    ordered = list(dict.fromkeys([*close, *names]))
    return InputError(what, found=found, expected=f"one of {choices(ordered) or 'none'}", fix=fix)


def like(name: str, known: Iterable[str]) -> list[str]:
    """Up to four known names that are close to an unknown one in any case, the closest first."""
    lower = {each.lower(): each for each in known}
    return [lower[each] for each in difflib.get_close_matches(name.lower(), list(lower), n=4)]


def within_a_screen(text: str) -> str:
    """Text that can be printed, without its middle where it is longer than a screen."""
    if len(text) <= MOST_CHARACTERS:
        return printable(text)
    _shortened.add(lambda: printable(text))
    head, tail = MOST_CHARACTERS * 3 // 4, MOST_CHARACTERS // 8
    middle = f" ... ({len(text) - head - tail} characters more) ... "
    return f"{printable(text[:head])}{middle}{printable(text[-tail:])}"


def printable(text: str) -> str:
    """Text that every file and terminal takes: no control characters, no broken encoding."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
