"""A kind of input: how one is made, and by what it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from click.testing import CliRunner

from analyze.cli import main

Case = dict[str, bytes]  # an input: the content of files by their names in a folder
WRITTEN = "written"  # the folder in an input's folder that reading may write to
LONG_AGO = 1_000_000_000  # seconds since 1970
LONGEST = 14_000  # characters of a message: a screen for each of its facts
TOLD = (0, 3, 4)  # exit codes of commands that end as they should


class UnexpectedError(Exception):
    """A command ended otherwise than by its work or by a message."""


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Args:
        name: As ``--only`` takes it.
        share: Of all inputs.
        seeds: Honest inputs, made anew.
        make: One spoilt input, of a draw and the inputs to start from.
        read: Reads the files in a folder as the program does, and returns what a user would see.
        seconds: Of processor time, after which reading hangs; what is drawn takes its time.
    """

    name: str
    share: float
    seeds: Callable[[], list[Case]]
    make: Callable[[Random, list[Case]], Case]
    read: Callable[[Path], str]
    seconds: float = 10.0


def command(*arguments: str) -> str:
    """What a command prints to both streams; any error but those for the user is raised."""
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code not in TOLD:
        raise UnexpectedError(f"{arguments[0]} ended with exit code {result.exit_code}")
    if len(result.stderr) > LONGEST:
        raise UnexpectedError(f"{arguments[0]} printed a message longer than a screen")
    return result.output


def write_case(case: Case, folder: Path) -> None:
    """Write the files of an input."""
    (folder / WRITTEN).mkdir(parents=True, exist_ok=True)
    for name, content in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (LONG_AGO, LONG_AGO))  # what was changed just now is waited for


def read_case(folder: Path) -> Case:
    """The files below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
