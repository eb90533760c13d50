"""Tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Iterable[str] = (),
) -> None:
    """Print a table to stdout; columns in ``numbers`` are aligned to the right.

    Names from files go in as plain text: neither markup nor control characters count.
    """
    right = set(numbers)
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column, style="bold"),
            justify="right" if column in right else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell_text(value)) for value in row))
    console = Console()
    # A pipe has no width: lines of a file are not to be folded at 80 characters.
    console = console if console.is_terminal else Console(width=240)
    # Not the table's own title, which is folded where the table is narrower.
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)


def cell_text(value: object) -> str:
    """A value as a reader wants it: four significant digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return "".join(c if c.isprintable() else "?" for c in str(value))


def with_error(value: object, error: object) -> str:
    """A number with its standard error: ``12.3 +- 0.4``."""
    if not isinstance(value, float):
        return "-"
    return f"{value:.3g} +- {error:.2g}" if isinstance(error, float) else f"{value:.3g}"


def size_text(size: float) -> str:
    """Bytes as a reader wants them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
