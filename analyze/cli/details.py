"""``--details FILE``: the lists that messages show in part, in full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from analyze.cli.options import OUTPUT_FILE
from analyze.errors import Shortened, shortened
from analyze.files.targets import check_target
from analyze.files.whole import write_whole


def _writable(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """The path, where a file can be written there."""
    try:
        if path is not None:
            check_target(path)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", context, parameter) from error
    return path


def details_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--details``, given to the function as a path or None."""
    return click.option(
        "--details", type=OUTPUT_FILE, metavar="FILE", callback=_writable,
        help="Write the lists that messages show in part to this file, in full.",
    )(function)  # fmt: skip


def keep_details(context: click.Context, path: Path | None) -> None:
    """Note what the messages of a command show in part; write the whole of it at its end."""
    context.obj = context.with_resource(shortened(keep=path is not None))
    if path is not None:
        context.call_on_close(lambda: _write(path, context.obj))


def _write(path: Path, texts: Shortened) -> None:
    """Each text once, with an empty line between them."""
    try:
        write_whole(path, "\n\n".join(dict.fromkeys(texts.whole)).encode() + b"\n")
    except OSError as error:
        click.echo(f"Warning: {path} is not written: {error.strerror}", err=True)
