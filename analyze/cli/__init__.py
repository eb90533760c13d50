"""The command line: parse, call one function, print; ``--help`` imports no torch.

A file has the commands of one stage, and each prints what the function of its name returns.
"""

from __future__ import annotations

from pathlib import Path

import click

from analyze.cli.details import details_option, keep_details
from analyze.cli.examples import examples
from analyze.cli.init import init
from analyze.cli.options import Group
from analyze.cli.pages import compare, report
from analyze.cli.probes import probes
from analyze.cli.run import check, run, scan
from analyze.cli.show import show
from analyze.cli.status import status

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradient-coherence", prog_name="analyze")
@details_option
@click.pass_context
def main(context: click.Context, details: Path | None) -> None:
    """When, in which layer and for which examples the gradients of a network agree.

    Point it at a directory of checkpoints: analyze run RUN, then analyze report OUT.h5.
    """
    keep_details(context, details)


for command in (scan, init, check, run, status, show, examples, report, compare, probes):
    main.add_command(command)
