"""Values as a reader wants to see them, on the terminal and on pages."""

from __future__ import annotations

import math

PLACES = ("step", "epoch")  # along training; the first that is known names all checkpoints
LONGEST = 1000  # characters of a name, or of a cell of a table
ROUNDING = 1e-6  # of a value: an error below it is that of float32


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


def to_two_digits(value: float, error: float) -> str:
    """A number in running text: ``78 +- 11``, to the second digit of its error, where it has one.

    Without one, or with one that is rounding, it has three significant digits.
    """
    if not math.isfinite(error) or error <= ROUNDING * abs(value):
        return three_digits(value)
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} +- {error:,.{digits}f}"


def three_digits(value: float) -> str:
    """A number in running text: ``1,234``, ``148``, ``5.30``, ``0.0512``, ``1.20e-5``.

    ``rounded`` in ``pages/scripts/format.js`` has the same.
    """
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:#.3g}".replace("e-0", "e-")


def place_text(value: float, of: str = "step") -> str:
    """A place along training: ``1,250,000``, ``0.5``; a whole number has all of its digits.

    ``of`` is ``step``, ``epoch``, or a loss, which has three significant digits.
    """
    if math.isfinite(value) and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.3g}" if of.endswith("loss") else f"{value:,.6g}"


def with_interval(value: float, lower: float, upper: float) -> str:
    """``12.3 (95 %: 10.1 to 14.5)``, or the number alone where its interval is unknown.

    ``withInterval`` in ``pages/scripts/format.js`` has the same.
    """
    text, known = three_digits(value), math.isfinite(lower) and math.isfinite(upper)
    return f"{text} (95 %: {three_digits(lower)} to {three_digits(upper)})" if known else text


def size_text(size: float) -> str:
    """A number of bytes with a unit: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
