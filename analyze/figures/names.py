"""Names from files as text to draw and to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.legend import Legend

SHOWN = "\u200a"  # a hair space


def plain(name: str) -> str:
    """A name as text alone: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in name)


def figure_text(name: str, longest: int | None = None) -> str:
    """A name for matplotlib, which would read what stands between $ as formulas."""
    name = plain(name)
    return (name if longest is None else shortened(name, longest)).replace("$", r"\$")


def legend_label(name: str, longest: int | None = None) -> str:
    """As ``figure_text``, for a line: matplotlib leaves out of a legend what begins with ``_``."""
    text = figure_text(name, longest)
    return f"{SHOWN}{text}" if text.startswith("_") else text


def unmarked(legend: Legend) -> None:
    """Names in a legend as they are: without what ``legend_label`` put before some."""
    for text in legend.get_texts():
        text.set_text(text.get_text().removeprefix(SHOWN))


def shortened(name: str, longest: int) -> str:
    """A long name cut so that layers stay apart.

    Dotted parts become initials from the left, except those with a number; where that is not
    enough the middle is left out.
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
