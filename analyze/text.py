"""Values as a reader wants to see them, on the terminal and on pages."""

from __future__ import annotations

import math

LONGEST = 1000  # characters of a name, or of a cell of a table


def cell_text(value: object) -> str:
    """A value with four significant digits, or a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return shown_name(str(value))


def shown_name(name: str) -> str:
    """A name without control characters; one that is longer than any path loses its middle."""
    if len(name) > LONGEST:
        name = f"{name[: LONGEST // 2]}\u2026{name[-LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else "?" for c in name)


def with_error(value: object, error: object) -> str:
    """A number with its standard error: ``12.3 +- 0.4``."""
    if not isinstance(value, float):
        return "-"
    return f"{value:.3g} +- {error:.2g}" if isinstance(error, float) else f"{value:.3g}"


def with_interval(value: float, lower: float, upper: float) -> str:
    """A number with its 95 % interval, ``12.3 (10.1 to 14.5)``, or alone where that is unknown."""
    known = math.isfinite(lower) and math.isfinite(upper)
    return f"{value:.3g} ({lower:.3g} to {upper:.3g})" if known else f"{value:.3g}"


def size_text(size: float) -> str:
    """A number of bytes with a unit: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
