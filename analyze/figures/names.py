"""Names from files as text to draw and to print."""

from __future__ import annotations


def plain(name: str) -> str:
    """A name as text alone: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in name)


def figure_text(name: str, longest: int | None = None) -> str:
    """A name for matplotlib, which would read what stands between $ as formulas."""
    name = plain(name)
    return (name if longest is None else shortened(name, longest)).replace("$", r"\$")


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
