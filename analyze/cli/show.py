"""``analyze show``: the numbers of a results file as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from analyze.cli.options import Command, group_option, json_option, results_argument


@click.command(cls=Command)
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
    _print_coherence(rows, layers)
    for meaning in legend(rows):
        click.echo(f"Warning {meaning}")
    for name, status in skipped(tree).items():
        click.echo(f"Skipped {name}: {status}")
    for warning in warnings_of_the_run(tree):
        if warning.startswith(OLDER):
            click.echo(f"Warning: {warning}", err=True)
    _warn_of_no_seal(results)


def _warn_of_no_seal(results: Path) -> None:
    """That nobody can tell whether the numbers are those that were written."""
    from analyze.results.seal import UNSEALED, seal_of

    if seal_of(results) == UNSEALED:
        click.echo("Warning: no seal: of an older version, or another program changed it", err=True)


def _print_coherence(rows: list[dict[str, object]], layers: bool) -> None:
    """A line for each layer or checkpoint, a column for each subset."""
    from analyze.cli.tables import print_table
    from analyze.results.rows import PER_TOKEN, marks
    from analyze.text import with_error

    at = list(dict.fromkeys(str(row["checkpoint"]) for row in rows))
    keys = ["layer", "layer_type", "parameters"] if layers else ["checkpoint", "step", "epoch"]
    keys = ["checkpoint", *keys] if layers and len(at) > 1 else keys
    counts = {str(row["subset"]): row["probes"] for row in rows}
    table: dict[tuple[object, ...], dict[str, str]] = {}
    for row in rows:
        value = with_error(row["m_coherence"], row["m_coherence_stderr"])
        line = table.setdefault(tuple(row[k] for k in keys), {})
        line[str(row["subset"])] = f"{value} {marks(row)}".rstrip()
    columns = [*keys, *(f"{name} (m={count})" for name, count in counts.items())]
    title = f"m-coherence at {', '.join(at)}" if layers else "m-coherence of the network"
    lines = [[*key, *(line.get(name) for name in counts)] for key, line in table.items()]
    print_table(title, columns, lines, columns[1:])
    if not layers and any(PER_TOKEN in row for row in rows):
        _print_losses(rows, keys)


def _print_losses(rows: list[dict[str, object]], keys: list[str]) -> None:
    """Losses per token, as trainers print them, beside those of whole probes."""
    from analyze.cli.tables import print_table
    from analyze.results.rows import PER_TOKEN

    table: dict[tuple[object, ...], dict[str, object]] = {}
    for row in rows:
        line = table.setdefault(tuple(row[k] for k in keys), {})
        line |= {
            f"{row['subset']} (token)": row[PER_TOKEN],
            f"{row['subset']} (probe)": row["loss"],
        }
    losses = list(dict.fromkeys(column for line in table.values() for column in line))
    lines = [[*key, *(line.get(column) for column in losses)] for key, line in table.items()]
    columns = [*keys, *losses]
    print_table("mean loss per token and per probe, nats", columns, lines, columns[1:])
