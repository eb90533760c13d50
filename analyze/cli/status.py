"""``analyze status``: what a run has done, is doing and has left."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analyze.cli.options import Command, json_option, results_argument
from analyze.errors import within_a_screen

if TYPE_CHECKING:
    from analyze.runs.status import Status

PAUSE = 2.0  # seconds between two looks


@click.command(cls=Command)
@results_argument
@click.option("--watch", is_flag=True, help="Look again until the run is over, or Ctrl-C.")
@json_option
def status(results: Path, watch: bool, as_json: bool) -> None:
    """Show what a run has done, is doing and has left, while it goes on and after it.

    Nothing is written. With --watch and --json each line is one look.

    Example: analyze status half_noise.h5
    """
    from analyze.runs.status import COMPLETE, STOPPED
    from analyze.runs.status import status as status_of

    while True:
        found = status_of(results)
        if as_json:
            click.echo(json.dumps(asdict(found), indent=None if watch else 2))
        else:
            if watch and sys.stdout.isatty():
                click.clear()
            _print(found)
        if not watch or found.state in (COMPLETE, STOPPED):
            return
        time.sleep(PAUSE)


def _print(found: Status) -> None:
    from analyze.cli.tables import print_reasons, print_table
    from analyze.runs.progress import duration

    detail = f": {found.detail}" if found.detail else ""
    since = "" if found.seconds is None else f", since {duration(found.seconds)}"
    click.echo(within_a_screen(f"{found.output}: {found.state}{detail} ({found.by}{since})"))
    counts = f"{found.done} of {found.checkpoints} checkpoints are done"
    counts += f", {len(found.running)} running, {len(found.failed)} failed, {found.left} left"
    time_left = found.seconds_left
    click.echo(counts + ("" if time_left is None else f"; {duration(time_left)} left"))
    if found.running:
        columns = ["checkpoint", "host", "process", "device", "since", "measured"]
        rows = [
            [r.checkpoint, r.host, r.process, r.device, duration(r.seconds), f"{r.share:.0%}"]
            for r in found.running
        ]
        print_table("Running", columns, rows, columns[2:])
    print_reasons("Failed", found.failed)
