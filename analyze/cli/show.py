"""``analyze show``: the numbers of a results file as a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyze.cli.options import ReadingCommand, group_option, json_option, results_argument
from analyze.errors import within_a_screen

if TYPE_CHECKING:
    import xarray as xr

Row = dict[str, object]


@click.command(cls=ReadingCommand)
@results_argument
@click.option("--layers", is_flag=True, help="Every layer at one checkpoint.")
@click.option(
    "--checkpoint", metavar="NAME|GLOB",
    help="With --layers: which one, or ones; by default the last.",
)  # fmt: skip
@click.option("--layer", multiple=True, metavar="GLOB", help="Only these layers; repeatable.")
@click.option("--subset", multiple=True, metavar="GLOB", help="Only these subsets; repeatable.")
@click.option(
    "--checkpoints", multiple=True, metavar="GLOB", help="Of the network: only these checkpoints."
)
@click.option(
    "--sort", metavar="COLUMN",
    help="By a column of --json: numbers from the largest, text by alphabet.",
)  # fmt: skip
@group_option(None)
@click.option("--verify", is_flag=True, help="Only check that the numbers agree with each other.")
@json_option
@click.option("--csv", "as_comma", is_flag=True, help="Print comma-separated values.")
def show(results: Path, verify: bool, as_json: bool, as_comma: bool, **chosen: Any) -> None:
    """Print the numbers as a table: m-coherence with its standard error, and warnings by letter.

    With --sort a line stands where the first of its subsets does.

    Example: analyze show half_noise.h5 --layers --sort m_coherence
    """
    from analyze.cli.tables import print_reasons
    from analyze.results.file import open_results
    from analyze.results.rows import as_csv, legend, skipped, verify_results
    from analyze.results.show import show as rows_of
    from analyze.statistics.derived import OLDER
    from analyze.statistics.warnings import warnings_of_the_run

    layers = chosen["layers"] or chosen["by"] is not None or bool(chosen["layer"])
    if chosen["checkpoint"] is not None and not layers:
        raise click.UsageError("--checkpoint goes with --layers")
    if chosen["checkpoints"] and layers:
        raise click.UsageError("--checkpoints goes without --layers; --checkpoint goes with it")
    if as_json and as_comma:
        raise click.UsageError("--json or --csv, not both")
    tree = open_results(results)
    if verify:
        verify_results(tree, str(results))
        click.echo(f"{results}: all identities hold")
        _warn_of_no_seal(results)
        return
    rows = rows_of(tree, **chosen)
    if as_json or as_comma:
        click.echo(json.dumps(rows, indent=2) if as_json else as_csv(rows), nl=as_json)
        return
    _print_coherence(_by_label(tree, rows), layers)
    for meaning in legend(rows):
        click.echo(within_a_screen(f"Warning {meaning}"))
    print_reasons("Skipped", skipped(tree))
    for warning in warnings_of_the_run(tree):
        if warning.startswith(OLDER):
            click.echo(within_a_screen(f"Warning: {warning}"), err=True)
    _warn_of_no_seal(results)


def _warn_of_no_seal(results: Path) -> None:
    """Warn that nobody can tell whether the numbers are those that were written."""
    from analyze.results.seal import UNSEALED, seal_of

    if seal_of(results) == UNSEALED:
        click.echo("Warning: no seal: of an older version, or another program changed it", err=True)


def _by_label(tree: xr.DataTree, rows: list[Row]) -> list[Row]:
    """Rows with their subsets in words; ``all`` once where it is a subset by itself."""
    from analyze.results.subsets import shown_subsets

    labels = shown_subsets(tree)
    if not {str(row["subset"]) for row in rows} & set(labels):
        return rows  # all was asked for by its name
    return [row | {"subset": labels[n]} for row in rows if (n := str(row["subset"])) in labels]


def _print_coherence(rows: list[Row], layers: bool) -> None:
    """Print a line for each layer or checkpoint, with a column for each subset."""
    from analyze.results.rows import PER_TOKEN, marks
    from analyze.text import with_error

    at = list(dict.fromkeys(str(row["checkpoint"]) for row in rows))
    keys = ["layer", "layer_type", "parameters"] if layers else ["checkpoint", "step", "epoch"]
    keys = ["checkpoint", *keys] if layers and len(at) > 1 else keys
    title = f"m-coherence at {', '.join(at)}" if layers else "m-coherence of the network"
    if len({row["probes"] for row in rows}) > 1:
        title += ", each subset at its own m: compare those of one m"

    def coherence(row: Row) -> Row:
        value = with_error(row["m_coherence"], row["m_coherence_stderr"])
        return {f"{row['subset']} (m={row['probes']})": f"{value} {marks(row)}".rstrip()}

    def losses(row: Row) -> Row:
        """Losses per token, as trainers print them, beside those of whole probes."""
        subset = row["subset"]
        return {f"{subset} (token)": row[PER_TOKEN], f"{subset} (probe)": row["loss"]}

    _print_by_subset(title, keys, rows, coherence)
    if not layers and any(PER_TOKEN in row for row in rows):
        _print_by_subset("mean loss per token and per probe, nats", keys, rows, losses)


def _print_by_subset(
    title: str, keys: list[str], rows: list[Row], cells: Callable[[Row], Row]
) -> None:
    """Print a line for all rows of equal keys, with the cells of each row by column."""
    from analyze.cli.tables import print_table

    table: dict[tuple[object, ...], Row] = {}
    columns: dict[str, None] = {}
    for row in rows:
        line = cells(row)
        columns |= dict.fromkeys(line)
        table.setdefault(tuple(row[k] for k in keys), {}).update(line)
    lines = [[*key, *(line.get(c) for c in columns)] for key, line in table.items()]
    print_table(title, [*keys, *columns], lines, [*keys, *columns][1:])
