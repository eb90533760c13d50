"""The commands on probe sets: freeze one, show one; thin, and without torch for their help."""

from __future__ import annotations

import click

from analyze.cli_options import Group


@click.group(cls=Group)
def probes() -> None:
    """Freeze the examples to look at, and show what was frozen."""
