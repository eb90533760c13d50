"""``analyze scan``, ``check`` and ``run``: the commands on a directory of checkpoints."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyze.checkpoints.options import ReadingOptions
from analyze.cli.options import EXIT_SKIPPED, Command, json_option, options_of, run_argument
from analyze.cli.patience import told_if_long
from analyze.errors import FEW, counted, listed, within_a_screen
from analyze.runs.options import Options, RunOptions
from analyze.runs.ranks.launch import launched

if TYPE_CHECKING:
    from analyze.runs.check import Check

SYMBOLS = (  # under the table of limits
    "  d_eff: over how many directions the layer's gradients spread, so what chance can do\n"
    "  m-coherence: from here on (z = 3) it is no chance\n"
    "  alpha: the same for the probes of a subset, (m-coherence - 1) / (probes - 1): 0 is no "
    "agreement, 1 is equal gradients"
)


@click.command(cls=Command)
@run_argument
@options_of(ReadingOptions, without=("rename", "ignore"))
@json_option
def scan(run: Path, as_json: bool, **options: Any) -> None:
    """Show what is there: which files are checkpoints, which are not, and why.

    Example: analyze scan sample_checkpoints/half_noise
    """
    from analyze.checkpoints.checkpoint import NUMBERS
    from analyze.checkpoints.scan import scan as scan_run
    from analyze.cli.tables import print_reasons, print_rows, print_table

    with told_if_long(f"Looking for checkpoints in all that is below {run}; Ctrl-C stops it"):
        scanned = scan_run(run, **options)
    if as_json:
        click.echo(json.dumps(scanned.as_dict(), indent=2))
        return
    rows = scanned.as_rows()
    columns = [c for c in rows[0] if c != "problem" and (
        c in ("step", "epoch") or any(row[c] not in (None, "") for row in rows)
    )]  # fmt: skip
    print_rows(f"{scanned.as_headline()} in {run}", columns, rows, (*NUMBERS, "tensors"))
    if reasons := scanned.as_reasons():
        click.echo()
        print_table("Left out", ["file", "why"], reasons, most=FEW)
    for warning in scanned.warnings:
        click.echo(within_a_screen(f"Warning: {warning}"))
    problems = {c.name: c.problem for c in scanned.checkpoints if c.problem is not None}
    reasons_of = {name: f"{p.what}: {p.found}" for name, p in problems.items()}
    print_reasons("", reasons_of, {name: p.fix for name, p in problems.items()})


@click.command(cls=Command)
@run_argument
@options_of(Options)
@json_option
def check(run: Path, as_json: bool, **options: Any) -> None:
    """Do everything short of the run: fit, plan, proof, sizes and time.

    A pilot tells the smallest coherence of each layer that the probes can tell from chance.

    Exits with 4 when the run would skip some checkpoints.

    Example: analyze check sample_checkpoints/half_noise
    """
    launch = launched()
    if launch is not None and not launch.leads:  # the leading rank says what all would do
        return
    from analyze.runs.progress import for_stderr
    from analyze.runs.stages import READING

    with for_stderr() as progress:
        progress.stage(READING)  # before imports that take seconds
        from analyze.runs.check import check as check_run

        checked = check_run(run, progress=progress, **options)
    if as_json:
        click.echo(json.dumps(asdict(checked)))
    else:
        _print_check(checked)
    if checked.skipped:
        sys.exit(EXIT_SKIPPED)


def _print_check(checked: Check) -> None:
    from analyze.cli.tables import print_reasons, print_rows, print_table
    from analyze.runs.progress import duration
    from analyze.text import size_text

    columns = ["parameter", "size", "method", "verdict", "error"]
    print_rows("Plan and proof", columns, checked.parameters, ("size", "error"))
    click.echo()
    columns = ["method", "parameters", "values", "time"]
    methods = [row | {"time": f"{row['time']:.0%}"} for row in checked.methods]
    title = "Methods, and their share of the time of a batch"
    print_rows(title, columns, methods, columns[1:])
    columns = ["layer", "parameters", "d_eff", "m-coherence"]
    columns += [f"alpha, {name}" for row in checked.layers[:1] for name in row.alpha_unbiased]
    limits = [
        [row.layer, row.parameters, row.effective_dimension, row.m_coherence,
         *row.alpha_unbiased.values()]
        for row in checked.layers
    ]  # fmt: skip
    click.echo()
    title = "Smallest coherence that these probes tell from chance"
    print_table(title, columns, limits, columns[1:])
    click.echo(SYMBOLS)
    report = dict(checked.report)
    for key, value in report.items():
        if key.endswith("seconds"):
            report[key] = duration(float(str(value)))
        if key.endswith("bytes"):
            report[key] = size_text(float(str(value)))
        if isinstance(value, dict):
            report[key] = f"{counted(len(value), 'choice')}, listed by --json" if value else None
        if isinstance(value, list):
            report[key] = listed([str(part) for part in value]) or None
    click.echo()
    print_table("The run", ["", " "], [[k.replace("_", " "), v] for k, v in report.items()])
    print_reasons("Would skip", checked.skipped)
    for warning in checked.warnings:
        click.echo(within_a_screen(f"Warning: {warning}"))


@click.command(cls=Command)
@run_argument
@options_of(RunOptions)
def run(run: Path, **options: Any) -> None:
    """Measure every checkpoint of a run and write the results file.

    At the end it prints the network's m-coherence at the first checkpoint, at its peak and at the
    last, for the same number of examples of each subset, and what the report says of it.

    The same command again goes on where an earlier one stopped.

    Exits with 4 when some checkpoints were skipped; the file has the others.

    Example: analyze run sample_checkpoints/half_noise --output half_noise.h5
    """
    if options["patience"] is not None and not options["follow"]:
        raise click.UsageError("--patience goes with --follow")
    launch = launched()
    if launch is not None and not launch.leads:
        from analyze.runs.ranks.follower import follow

        sys.exit(follow(launch, options["device"]))
    from analyze.runs.progress import for_stderr
    from analyze.runs.stages import READING

    with for_stderr() as progress:
        progress.stage(READING)  # before imports that take seconds
        from analyze.results.rows import skipped
        from analyze.results.summary import lines, summary
        from analyze.runs import pipeline
        from analyze.runs.units.interruption import Interrupted

        measure_run = partial(pipeline.run_on_ranks, launch) if launch else pipeline.run
        try:
            tree = measure_run(run, progress=progress, **options)
        except Interrupted as interruption:
            click.echo(str(interruption), err=True)
            sys.exit(128 + interruption.signal)
    output = str(pipeline.output_of(run, options["output"]))
    click.echo(f"Wrote {output}")
    found = summary(tree)
    for line in lines(found):
        click.echo(within_a_screen(line))
    besides = ", and the warnings in words" if found.warnings else ""
    click.echo(f"Next: analyze report {shlex.quote(output)} for a page with figures{besides}")
    if left_out := skipped(tree):
        total = tree.sizes["checkpoint"]
        click.echo(f"{len(left_out)} of {total} checkpoints were skipped", err=True)
        sys.exit(EXIT_SKIPPED)
