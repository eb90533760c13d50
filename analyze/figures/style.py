"""The style of all figures, and the width at which they are printed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes

from analyze.errors import InputError

MARK = "gradient-coherence, by Matplotlib"  # in the metadata of every picture that we draw
STYLE_SHEET = Path(__file__).with_name("analyze.mplstyle")
WIDTHS = {"column": 3.3, "page": 6.9}  # inches: one column of a journal, and two
LEAST, MOST = 3.0, 20.0
NARROW = (
    5.0  # inches below which a figure has fewer ticks, shorter names and panels in fewer columns
)
SMALLEST = 7.0  # points of any text at the width of print
WIDER = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)  # fonts with characters of further scripts
_width: ContextVar[float] = ContextVar("width", default=WIDTHS["page"])


def style() -> AbstractContextManager[None]:
    """A context in which new figures and axes have the style of this package.

    A character that its font lacks is taken from an installed one of ``WIDER``.
    """
    return matplotlib.style.context([STYLE_SHEET, {"font.family": ["sans-serif", *_wider()]}])


@contextmanager
def missing_glyphs_allowed() -> Iterator[None]:
    """Ignore warnings about characters that no font has: PNG and PDF show boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _wider() -> list[str]:
    """Those of ``WIDER`` that are installed: matplotlib logs a line for each that is not."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in WIDER if name in installed]


def inches(width: str | float) -> float:
    """The inches of ``column`` (3.3), ``page`` (6.9) or a number of inches, also as text.

    Raises:
        InputError: neither a name nor a number from 3 to 20.
    """
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    try:
        value = float(width)
    except (TypeError, ValueError):
        value = float("nan")
    if not LEAST <= value <= MOST:
        raise InputError(
            "figures cannot have such a width",
            found=repr(width),
            expected=f"{', '.join(WIDTHS)}, or inches from {LEAST:g} to {MOST:g}",
            fix="--figure-width column",
        )
    return value


@contextmanager
def of_width(width: str | float) -> Iterator[None]:
    """A context in which the figures of the table are drawn ``inches(width)`` wide."""
    before = _width.set(inches(width))
    try:
        yield
    finally:
        _width.reset(before)


def figure_width() -> float:
    """The inches of a new figure; two columns, unless ``of_width`` says another."""
    return _width.get()


def width_of(ax: Axes) -> float:
    """The inches of the figure that axes are in."""
    return float(ax.figure.bbox.width / ax.figure.dpi)
