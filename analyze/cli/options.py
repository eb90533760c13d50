"""Commands that turn mistakes into messages, and options that several commands share; no torch."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from analyze.errors import InputError, out_of_memory

EXIT_INPUT = 3


class Command(click.Command):
    """A command that turns an InputError into a message and exit code 3, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_INPUT)
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            click.echo(f"Error: {_no_memory(error)}", err=True)
            sys.exit(EXIT_INPUT)


def _no_memory(error: BaseException) -> InputError:
    lines = str(error).splitlines() or [type(error).__name__]
    return InputError(
        "there is not enough memory",
        found=lines[0],
        expected="room for the model, its gradients and a batch; what is finished is kept",
        fix="the same command with --batch-size 1 or fewer --folds, or with more memory",
    )


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def shared(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, shown in the order given."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda f, option: option(f), reversed(options), function)

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
finding_options = shared(
    click.option(
        "--weights", type=click.Choice(["model", "ema"]),
        help="The trained weights, or their moving average; by default the trained ones, and the "
        "average where there is nothing else.",
    ),
    click.option(
        "--weights-key", metavar="KEY",
        help="Where in the files the weights are, if scan does not know: student, state.net.",
    ),
    click.option(
        "--manifest", type=click.Path(path_type=Path), metavar="FILE.csv",
        help="checkpoint,step,epoch,tokens: your list of them, which overrules all else.",
    ),
    click.option(
        "--step-regex", metavar="REGEX",
        help="Finds steps in names, by groups: '(?P<step>\\d+)', epoch, tokens.",
    ),
    click.option(
        "--trust-pickle", is_flag=True,
        help="Open pickles that can run code: only for files whose maker you trust.",
    ),
)  # fmt: skip
fitting_options = shared(
    click.option(
        "--rename", multiple=True, metavar="OLD=NEW",
        help="Tensors of the checkpoint by another name: 'head.*=fc.*'.",
    ),
    click.option(
        "--ignore", multiple=True, metavar="GLOB",
        help="Buffers that may be missing, and tensors that the model has no place for.",
    ),
)  # fmt: skip
