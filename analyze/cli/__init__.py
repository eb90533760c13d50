"""The command line: parse, call one function, print; ``--help`` imports no torch."""

from analyze.cli.commands import main

__all__ = ["main"]
