"""Names from files as text to draw and to print."""

from __future__ import annotations

import re
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
    """A long name without its middle, cut so that layers keep different names.

    Dotted parts without a number are left out from the middle on: ``layer1.0\u2026conv2``. Then the
    first one becomes its initial; where that is not enough, letters of the middle are left out.
    ``pages/scripts/format.js`` has the same.
    """
    parts = name.split(".")
    inner = [k for k in range(1, len(parts) - 1) if not any(c.isdigit() for c in parts[k])]
    for k in sorted(inner, key=lambda k: abs(2 * k - len(parts) + 1)):
        if len(_joined(parts)) <= longest:
            break
        parts[k] = ""
    name = _joined(parts)
    if len(name) > longest and len(parts) > 1 and not any(c.isdigit() for c in parts[0]):
        name = _joined([parts[0][:1], *parts[1:]])
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[len(name) - (longest - head - 1) :]}"


def _joined(parts: list[str]) -> str:
    """Dotted parts; an ellipsis where some are empty, as they were left out."""
    return re.sub(r"\.{2,}", "\u2026", ".".join(parts))
