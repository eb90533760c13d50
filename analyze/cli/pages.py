"""``analyze report`` and ``compare``: the commands that write pages with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analyze.cli.options import PATH, ReadingCommand, group_option, results_argument, size_option
from analyze.errors import within_a_screen

figure_width_option = click.option(
    "--figure-width", default="page", show_default=True, metavar="column|page|INCHES",
    help="The figures' width in print: 3.3 inches, 6.9, or another; text has at least 7 points.",
)  # fmt: skip
DRAWING = "Reading the numbers and drawing figures"


@click.command(cls=ReadingCommand)
@results_argument
@click.option(
    "--output", type=PATH, metavar="DIR",
    help="Where the page goes; by default the results file's name with _report, here.",
)  # fmt: skip
@click.option(
    "--x", type=click.Choice(["step", "epoch", "loss"]),
    help="What the figures show training along; by default steps where they are known.",
)  # fmt: skip
@click.option(
    "--x-scale", type=click.Choice(["automatic", "linear", "log"]), default="automatic",
    show_default=True, help="The axis of training, of the figures and at first on the page.",
)  # fmt: skip
@group_option("layer")
@click.option(
    "--probes", type=PATH, metavar="FILE",
    help="The probe file with the examples' pictures, if it is not where the run read it.",
)  # fmt: skip
@figure_width_option
@size_option("subsets", "smallest|own|alpha")
def report(results: Path, output: Path | None, **options: Any) -> None:
    """Write a page with figures: DIR/index.html and DIR/figures.

    Example: analyze report half_noise.h5 --output half_noise_report
    """
    click.echo(DRAWING, err=True)  # before imports that take seconds
    from analyze.reports.page import report as write_report

    page = write_report(results, output=output, **options)
    click.echo(f"Wrote {page}")


@click.command(cls=ReadingCommand)
@click.argument("results", nargs=-1, required=True, type=PATH, metavar="A.h5 B.h5 ...")
@click.option(
    "--output", type=PATH, metavar="DIR",
    help="Where the page, the figures and comparison.h5 go; by default comparison, here.",
)  # fmt: skip
@click.option(
    "--align", type=click.Choice(["step", "epoch", "loss"]), default="step", show_default=True,
    help="What runs are matched by; only at equal training loss values are interpolated.",
)  # fmt: skip
@click.option(
    "--rename", multiple=True, metavar="OLD=NEW", help="Layers by another name; repeatable."
)
@click.option(
    "--different-probes", is_flag=True, help="Compare runs that were measured on other inputs."
)
@click.option(
    "--group", "groups", multiple=True, metavar="NAME=A.h5,B.h5",
    help="Runs that differ in their seed only: compared as one configuration; repeatable.",
)  # fmt: skip
@click.option(
    "--ratio", "ratios", multiple=True, metavar="'B / A'",
    help="A figure of this pair too, besides those with the first run; repeatable.",
)  # fmt: skip
@figure_width_option
@group_option("layer")
@size_option("runs", "smallest|alpha")
def compare(
    results: tuple[Path, ...],
    output: Path | None,
    groups: tuple[str, ...],
    ratios: tuple[str, ...],
    **options: Any,
) -> None:
    """Compare runs: ratios of m-coherence, their errors, and which of them are significant.

    Writes DIR/index.html, DIR/figures and DIR/comparison.h5; the runs are named by their files.

    Example: analyze compare half_noise.h5 real_labels.h5 --output comparison
    """
    click.echo(DRAWING, err=True)
    from analyze.cli.tables import print_table
    from analyze.comparison import compare as compare_runs
    from analyze.comparison.groups import group_map
    from analyze.comparison.rows import event_tables, remarks, setting_rows

    members = group_map(groups, [path.stem for path in results])
    paths = [str(path) for path in results]
    output = output or Path("comparison")
    tree = compare_runs(paths, output=output, groups=members, ratios=ratios, **options)
    for title, columns, rows in event_tables(tree):
        print_table(title, columns, rows, columns[2:])
        click.echo()
    title, columns, rows = setting_rows(tree)
    if rows:
        print_table(title, columns, rows)
        click.echo()
    for remark in remarks(tree):
        click.echo(within_a_screen(remark))
    click.echo(f"Wrote {output / 'index.html'} and {output / 'comparison.h5'}")
