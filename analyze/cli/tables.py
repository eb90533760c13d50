"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analyze.errors import few, told_once, within_a_screen
from analyze.text import PLACES, cell_text, place_text


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Iterable[str] = (),
    most: int | None = None,
) -> None:
    """Print a table to stdout; columns in ``numbers`` are aligned to the right.

    Beyond ``most`` rows a line has the number of further ones; ``--details`` has all. Names from
    files go in as plain text: neither markup nor control characters count.
    """
    right = set(numbers)
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(cell_text(column), style="bold"),
            justify="right" if column in right else "left",
            overflow="fold",
        )
    rows = list(rows)
    for row in rows[:most]:
        texts = map(_cell, columns, row)
        table.add_row(*(Text(text) for text in texts))
    console = Console()
    # A pipe has no width: lines of a file are not to be folded at 80 characters.
    console = console if console.is_terminal else Console(width=240)
    # Not the table's own title, which is folded where the table is narrower.
    console.print(Text(cell_text(title), style="italic"), soft_wrap=True)
    console.print(table)
    if most is not None and len(rows) > most:
        click.echo(few([": ".join(map(cell_text, row)) for row in rows], most)[-1])


def _cell(column: str, value: object) -> str:
    """A value as text; places along training have all the digits that tell them apart."""
    return place_text(value) if column in PLACES and isinstance(value, float) else cell_text(value)


def print_rows(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    numbers: Iterable[str] = (),
) -> None:
    """As ``print_table``, of dictionaries that have the columns, and perhaps more."""
    print_table(title, columns, [[row[c] for c in columns] for row in rows], numbers)


def print_reasons(word: str, reasons: Mapping[str, str], fixes: Mapping[str, str] = {}) -> None:
    """Print what is said of each name, equal reasons once, and the first few of others.

    ``word`` stands before each name: ``Skipped step_10.pt: ...``; fixes have lines of their own.
    """
    entries = []
    for name, (reason, further) in told_once(reasons).items():
        fix = f"to fix: {fixes[name]}" if name in fixes else ""
        lines = [f"{word} {name}: {reason}".lstrip(), *filter(None, [fix, further])]
        entries.append("\n  ".join(map(within_a_screen, lines)))
    for entry in few(entries):
        click.echo(entry)
