"""Commands that turn mistakes into messages, and options made from dataclasses; no torch."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from analyze.errors import InputError, out_of_memory
from analyze.files.permission import not_permitted
from analyze.keywords import explained, keywords

EXIT_INPUT, EXIT_SKIPPED = 3, 4
EXIT_INTERRUPTED = 130  # what shells make of SIGINT
PATH = click.Path(path_type=Path, readable=False)  # what may not be read has a message of ours


class OutputFile(click.Path):
    """The path of a file to write, which does not end in a separator as a directory's does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Parse a path."""
        if isinstance(value, str) and value.endswith(tuple(filter(None, (os.sep, os.altsep)))):
            self.fail(f"{value!r} ends in a separator: it is the name of a file", param, ctx)
        return Path(str(super().convert(value, param, ctx)))


OUTPUT_FILE = OutputFile(readable=False)


class Command(click.Command):
    """A command that turns an InputError into a message and exit code 3, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            problem = error
        except PermissionError as error:
            if not isinstance(error.filename, str | bytes):
                raise
            problem = not_permitted(os.fsdecode(error.filename))
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            problem = _no_memory(error)
        click.echo(f"Error: {problem}", err=True)
        if ctx.obj is not None and ctx.obj.any and not ctx.obj.keep:
            program, *command = ctx.command_path.split(" ")
            click.echo(f"  in full:  {program} --details FILE {' '.join(command)} ...", err=True)
        sys.exit(EXIT_INPUT)


class ReadingCommand(Command):
    """A command that reads results and ends; garbage in cycles goes when it does.

    To look for it takes a tenth of the time of ``report``, and frees a hundredth of the memory.
    """

    def invoke(self, ctx: click.Context) -> Any:
        gc.disable()
        try:
            return super().invoke(ctx)
        finally:
            gc.enable()


def _no_memory(error: BaseException) -> InputError:
    return InputError(
        "there is not enough memory",
        found=next(iter(str(error).splitlines()), type(error).__name__),
        expected="room for the model, its gradients and a batch; what is finished is kept",
        fix="the same command with --batch-size 1 or fewer --folds, or with more memory",
    )


class Group(click.Group):
    """A group of commands that turn an InputError into a message, and Ctrl-C into exit code 130.

    A run that has begun says itself what is kept.
    """

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(EXIT_INTERRUPTED)


class BatchSize(click.ParamType):
    """``auto`` or a positive number."""

    name = "auto|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Parse a number, or ``auto``."""
        if value == "auto":
            return "auto"
        with suppress(ValueError):
            if (size := int(value)) > 0:
                return size
        self.fail(f"{value!r} is neither auto nor a positive number", param, ctx)


# The arguments of an option, where its value is neither plain text nor a flag.
TYPED: dict[str, dict[str, Any]] = {
    "batch_norm": {"type": click.Choice(["recomputed", "saved"])},
    "batch_size": {"type": BatchSize()},
    "cells": {"metavar": "COLUMN,...", "default": "", "multiple": False},
    "checkpoints": {"metavar": "GLOB|SLICE"},
    "cluster": {"metavar": "local|auto|HOST:PORT"},
    "cpus_per_task": {"type": click.IntRange(min=1), "metavar": "N"},
    "device": {"metavar": "auto|cpu|cuda[:i]|mps|..."},
    "directions": {"metavar": "NAME,...", "default": "", "multiple": False},
    "examples": {"type": click.Choice(["auto", "on", "off"])},
    "folds": {"type": click.IntRange(min=1)},
    "gpus_per_task": {"type": click.FloatRange(min=0), "metavar": "N"},
    "ignore": {"metavar": "GLOB"},
    "layers": {"metavar": "GLOB"},
    "loss": {"metavar": "SPEC"},
    "manifest": {"type": PATH, "metavar": "FILE.csv"},
    "max_probes": {"type": click.IntRange(min=1), "metavar": "N"},
    "model": {"metavar": "SPEC"},
    "on_error": {"type": click.Choice(["skip", "fail"])},
    "output": {"type": OUTPUT_FILE, "metavar": "OUT.h5"},
    "parameters": {"metavar": "GLOB"},
    "patience": {"type": click.FloatRange(min=0, min_open=True), "metavar": "MINUTES"},
    "precision": {"type": click.Choice(["float32", "float64"])},
    "probes": {"type": PATH},
    "rename": {"metavar": "OLD=NEW"},
    "step_regex": {"metavar": "REGEX"},
    "weights": {"type": click.Choice(["model", "ema"])},
    "weights_key": {"metavar": "KEY"},
}


def options_of(kind: type, without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """The keywords of a dataclass as options of a command."""
    texts = explained(kind)
    known = keywords(kind, without)
    options = [_option(name, k.default, texts.get(name, "")) for name, k in known.items()]
    return lambda function: functools.reduce(lambda f, option: option(f), options[::-1], function)


def _option(name: str, default: Any, text: str) -> Callable[..., Any]:
    made: dict[str, Any] = {"default": default, "multiple": default == ()}
    made |= {"is_flag": default is False, "show_default": default not in ((), None, False)}
    made |= TYPED.get(name, {})
    text = text.replace("``", "")
    text = f"{text.removesuffix('.')}; repeatable." if made["multiple"] else text
    return click.option(f"--{name.replace('_', '-')}", help=text, **made)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
run_argument = click.argument("run", type=PATH, metavar="RUN")
results_argument = click.argument("results", type=PATH, metavar="OUT.h5")


def group_option(default: str | None) -> Callable[..., Any]:
    """The option ``--group-by``: layers, blocks or parameters as rows of a table."""
    return click.option(
        "--group-by", "by", type=click.Choice(["layer", "block", "parameter"]), default=default,
        help="Rows for layers, blocks of layers or parameters; nothing is measured again.",
    )  # fmt: skip


def size_option(what: str, choices: str) -> Callable[..., Any]:
    """The option ``--at-size``: the size at which subsets, or runs, stand side by side."""
    return click.option(
        "--at-size", metavar=f"{choices}|N", default="smallest", show_default=True,
        help=f"The number of probes at which {what} stand side by side; m-coherence grows with it.",
    )  # fmt: skip
