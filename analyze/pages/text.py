"""Numbers and names as the pages print them."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from analyze.results.values import Value, in_words
from analyze.statistics.warnings import KINDS
from analyze.text import cell_text, place_text, three_digits

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
LONG = 36  # characters


def number(value: float) -> str:
    """A coherence with two decimals, to align columns; ``1,280`` from a thousand on."""
    if not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def rounded(value: float) -> str:
    """A number in running text: three significant digits."""
    if not math.isfinite(value):
        return NOTHING
    return three_digits(value).replace("-", MINUS)


def whole(value: float) -> str:
    """A step or an epoch; a large step with all its digits."""
    if not math.isfinite(value):
        return NOTHING
    return place_text(value)


def with_error(value: Value | None) -> Markup:
    """A value and, smaller, its standard error, in two columns of constant width."""
    if value is None:
        return Markup('<span class="nothing">{}</span>').format(NOTHING)
    digits = _two_digits if value.small else number
    error = f"± {digits(value.error)}" if math.isfinite(value.error) else ""
    shown = Markup('{}<span class="error">{}{}</span>')
    return shown.format(digits(value.value), error, marked(value))


def _two_digits(value: float) -> str:
    return f"{value:.2g}".replace("-", MINUS, 1) if value < 0 else f"{value:.2g}"


def marked(value: Value) -> Markup:
    """The letters of a value's warnings, raised, each with its meaning."""
    letters = [(kind.mark, kind.text) for kind in KINDS if kind.mark and kind.mark in value.marks]
    return Markup("").join(
        Markup('<sup class="mark" title="{}">{}</sup>').format(text, mark) for mark, text in letters
    )


def cosine(value: float) -> str:
    """A cosine with its sign."""
    return f"{value:+.2f}".replace("-", MINUS) if math.isfinite(value) else NOTHING


def breakable(name: str) -> Markup:
    """A name in a table; long ones may break after each dot."""
    if len(name) <= LONG:
        return escape(name)
    return Markup('<span class="long">{}</span>').format(Markup(".<wbr>").join(name.split(".")))


def share(value: float) -> str:
    """A share as per cent."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else NOTHING


def loss(value: float) -> str:
    """A loss with three decimals; below 0.001 with an exponent."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def sort_key(value: Value | float | None) -> str:
    """The sort key of a value; empty for nothing."""
    number = value.value if isinstance(value, Value) else value
    return "" if number is None or not math.isfinite(number) else f"{number:.9g}"


def cell(value: object) -> str:
    """A cell of a table that the terminal shows as well."""
    return cell_text(value).replace("+-", "\N{PLUS-MINUS SIGN}")


FILTERS = {
    "number": number, "rounded": rounded, "whole": whole, "share": share, "loss": loss,
    "with_error": with_error, "in_words": in_words, "cosine": cosine, "breakable": breakable,
    "marked": marked, "sort_key": sort_key, "cell": cell,
}  # fmt: skip
