"""``analyze examples``: single examples by how they pull on others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyze.cli.options import PATH, ReadingCommand, json_option, results_argument
from analyze.errors import within_a_screen

if TYPE_CHECKING:
    from analyze.rankings.ranking import Ranking

STDOUT = "-"
FIRST = 20  # lines of the table


@click.command(cls=ReadingCommand)
@results_argument
@click.option(
    "--by", default="suspicion", show_default=True,
    metavar="suspicion|prototype|influence|change", help="The score; each is defined above.",
)  # fmt: skip
@click.option("--layer", metavar="NAME|GLOB", help="One layer, or several taken together.")
@click.option(
    "--checkpoint", metavar="NAME|GLOB", help="One checkpoint; by default the mean over all."
)
@click.option(
    "--against", metavar="NAME",
    help="What an example is compared with: a subset, all, or a column for the rest of its label. "
    "By default its given class where the run has every class, else all.",
)  # fmt: skip
@click.option(
    "--probes",
    type=PATH,
    metavar="FILE",
    help="The probe file, if it is not where the run read it.",
)  # fmt: skip
@click.option(
    "--signals", is_flag=True,
    help="What tells wrong labels, in every layer and at every checkpoint, in place of examples.",
)  # fmt: skip
@click.option(
    "--first", type=click.IntRange(min=1), default=FIRST, show_default=True, metavar="N",
    help="Lines of the table on the terminal.",
)  # fmt: skip
@json_option
@click.option(
    "--csv", "csv_file", is_flag=False, flag_value=STDOUT, metavar="[FILE]",
    help="Write all lines as comma-separated values to FILE, or print them.",
)  # fmt: skip
def examples(results: Path, as_json: bool, csv_file: str | None, first: int, **chosen: Any) -> None:
    """Rank single examples by how their gradients pull on others'.

    \b
    suspicion  pulls against the others: minus the cosine of the example's
               gradient and the sum of the others' (1 opposes, -1 agrees)
    prototype  helps the others most: product of its gradient with their sum,
               the first-order drop of their loss by a step along it
    influence  decides most: the size of that product, help or harm
    change     moves most: by how much the cosine changes from one measured
               checkpoint to the next

    The others are the rest of its class, or of all training probes: see --against. Held-out
    probes, whose labels are right, find wrong labels best. Over all checkpoints a score is its
    mean. The run needs directions: analyze run RUN --directions all,HELD_OUT_SUBSET.

    Where the file says which labels are wrong, a second table has the AUROC and average precision
    with 95 % intervals of every signal: the best place of each, and the best over all checkpoints.

    Example: analyze examples half_noise.h5 --by suspicion --csv suspects.csv
    """  # noqa: D301 - in a raw string the backspace, at which click keeps lines, would be printed
    from analyze.rankings.ranking import examples as ranking_of

    if as_json and csv_file is not None:
        raise click.UsageError("--json or --csv, not both")
    ranking = ranking_of(results, **chosen)
    rows = ranking.signals if chosen["signals"] else ranking.rows
    if as_json:
        click.echo(json.dumps(asdict(ranking), indent=2))
    elif csv_file is not None:
        _write_csv(rows, csv_file)
    else:
        _print(ranking, rows[:first], len(rows), chosen["signals"])


def _write_csv(rows: list[dict[str, object]], target: str) -> None:
    """Print rows as comma-separated values, or write them to a file."""
    from analyze.results.rows import as_csv, write_csv

    if target == STDOUT:
        click.echo(as_csv(rows), nl=False)
        return
    write_csv(rows, Path(target))
    click.echo(f"Wrote {target}")


def _print(ranking: Ranking, rows: list[dict[str, object]], count: int, every: bool) -> None:
    """Print the examples, then the signals; or every signal alone."""
    if not every:
        from analyze.cli.tables import print_rows

        where = "over all checkpoints" if ranking.checkpoint == "all" else ranking.checkpoint
        title = f"{ranking.by} against {ranking.against}, {ranking.layer}, {where}"
        print_rows(title, list(rows[0]), rows, ("rank", "probe", "score"))
        click.echo(within_a_screen(f"{ranking.by}: {ranking.meaning}"))
        _say_more(len(rows), count)
        if ranking.signals:
            click.echo()
    if ranking.signals:
        _print_signals(rows if every else ranking.signals)
        if every:
            _say_more(len(rows), count)
    for sentence in ranking.sentences:
        click.echo(within_a_screen(sentence))


def _say_more(shown: int, count: int) -> None:
    if shown < count:
        click.echo(f"{count - shown:,} more: --first {count}, or --csv FILE")


def _print_signals(rows: list[dict[str, object]]) -> None:
    from analyze.cli.tables import print_table

    columns = ["signal", "layer", "checkpoint", "AUROC", "average precision"]
    lines = [
        [row["signal"], row["layer"], row["checkpoint"], _interval(row, "auroc"),
         _interval(row, "average_precision")]
        for row in rows
    ]  # fmt: skip
    print_table("What tells wrong labels, with 95 % intervals", columns, lines, columns[3:])


def _interval(row: dict[str, object], name: str) -> str:
    """``0.912 (0.890 to 0.931)``."""
    value, lower, upper = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    ends = "" if lower is None or upper is None else f" ({lower:.3f} to {upper:.3f})"
    return f"{value:.3f}{ends}"
