"""``analyze init``: a starter of the run card."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from analyze.checkpoints.options import ReadingOptions
from analyze.cli.options import Command, options_of, run_argument
from analyze.cli.patience import told_if_long


@click.command(cls=Command)
@run_argument
@options_of(ReadingOptions, ("manifest", "trust_pickle", "rename", "ignore"))
def init(run: Path, **options: Any) -> None:
    """Write a starter of the run card, RUN/run.toml, from what is recognised there.

    An existing card is not overwritten.

    Example: analyze init runs/mine
    """
    with told_if_long("Looking at the checkpoints, and for a model that has their tensors"):
        from analyze.runs.starter_card import init as write_card
        from analyze.specs.run_card import read_run_card

        path = write_card(run, **options)
    click.echo(path.read_text(encoding="utf-8"))
    then = shlex.join(["analyze", "check", str(run)])
    if read_run_card(run).model is None:
        then += " --model FILE.py:FACTORY"
    click.echo(f"Wrote {path}. Look through it, then: {then}")
