"""Names from files as text to draw and to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyze.text import shown_name

if TYPE_CHECKING:
    from matplotlib.legend import Legend

LONGEST = 120  # characters of a name; longer ones would make a figure of any width
SHOWN = "\u200a"  # a hair space


def plain(name: str) -> str:
    """A name without control characters; a very long one is cut."""
    return shown_name(name)


def figure_text(name: str, longest: int = LONGEST) -> str:
    """A name for matplotlib, which would read text between $ as formulas."""
    return shortened(plain(name), longest).replace("$", r"\$")


def legend_label(name: str, longest: int = LONGEST) -> str:
    """A name for a legend, out of which matplotlib leaves names that begin with ``_``."""
    text = figure_text(name, longest)
    return f"{SHOWN}{text}" if text.startswith("_") else text


def unmarked(legend: Legend) -> None:
    """Remove the characters from a legend that ``legend_label`` put before some names."""
    for text in legend.get_texts():
        text.set_text(text.get_text().removeprefix(SHOWN))


def shortened(name: str, longest: int) -> str:
    """A long name, cut so that layers keep different names.

    Dotted parts become initials from the left, except those with a number; then the middle is cut.
    """
    parts = name.split(".")
    for k, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= longest:
            break
        if not any(c.isdigit() for c in part):
            parts[k] = part[:1]
    name = ".".join(parts)
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[len(name) - (longest - head - 1) :]}"
