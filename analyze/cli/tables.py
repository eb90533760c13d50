"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analyze.text import cell_text


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
            Text(cell_text(column), style="bold"),
            justify="right" if column in right else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell_text(value)) for value in row))
    console = Console()
    # A pipe has no width: lines of a file are not to be folded at 80 characters.
    console = console if console.is_terminal else Console(width=240)
    # Not the table's own title, which is folded where the table is narrower.
    console.print(Text(cell_text(title), style="italic"), soft_wrap=True)
    console.print(table)


def print_rows(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    numbers: Iterable[str] = (),
) -> None:
    """As ``print_table``, of dictionaries that have the columns, and perhaps more."""
    print_table(title, columns, [[row[c] for c in columns] for row in rows], numbers)
