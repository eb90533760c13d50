"""Every command, option and public function says what it does, with an example."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import click
import pytest

import analyze
from analyze import statistics
from analyze.cli import main
from analyze.statistics.variables import VARIABLES
from analyze.statistics.warnings import FLAGS, KINDS
from tests.conftest import call


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command by its words, those of groups as well."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_with_an_example_that_parses(name):
    text = call(*name.split(), "--help").stdout
    example = re.search(r"Example: (analyze .*?)(?=\n\n|\n  \n|\nOptions)", text, re.DOTALL)
    assert example is not None
    words = shlex.split(example[1])
    assert words[1 : 1 + len(name.split())] == name.split()
    arguments = words[1 + len(name.split()) :]
    COMMANDS[name].make_context(name, arguments)  # refuses options that do not exist
    assert COMMANDS[name].get_short_help_str(100).rstrip(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name):
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith("."), option.help


def test_the_program_has_help():
    result = call("--help")
    assert result.exit_code == 0
    assert "analyze run RUN" in result.stdout
    for name in COMMANDS:
        assert name.split()[0] in result.stdout
    assert call("-h").stdout == result.stdout


def test_version():
    from importlib.metadata import version

    assert call("--version").stdout == f"analyze, version {version('gradient-coherence')}\n"


@pytest.mark.parametrize("name", ["measure", "run", "ProbeSet", "InputError"])
def test_a_public_function_explains_every_argument(name):
    public = getattr(analyze, name)
    for argument in inspect.signature(public).parameters:
        assert re.search(rf"^ +{argument}: ", public.__doc__, re.MULTILINE), argument


PAGE = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*VARIABLES, FLAGS, *(kind.name for kind in KINDS)])
def test_every_quantity_is_explained(name):
    assert f"`{name}`" in PAGE


def test_the_letters_of_the_warnings_are_those_of_the_page():
    for kind in KINDS:
        assert f"| `{kind.name}` | {kind.mark} |".replace("|  |", "| |") in PAGE


@pytest.mark.parametrize("name", statistics.__all__)
def test_a_statistical_function_explains_itself(name):
    assert len(getattr(statistics, name).__doc__.splitlines()) > 5
