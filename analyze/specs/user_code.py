"""The user's own Python: ``FILE.py:NAME`` or ``package.module:NAME``, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from analyze.errors import InputError, choices, described, like
from analyze.files.present import is_file

# What the user's code is for, and the kind of object in it.
KINDS = {"model": "factory", **dict.fromkeys(("loss", "data", "transform"), "function")}


def load_function(source: str, name: str, what: str) -> Callable[..., Any]:
    """The function or class ``name`` in ``source``, a Python file or an installed module.

    ``what`` is a key of ``KINDS``, and the option by which the user names the function.

    Raises:
        InputError: no such file or module, an error in it, or nothing callable of that name.
    """
    if source.endswith(".py"):
        module = _module_of_file(Path(source), what)
    else:
        module = _module_of_package(source, what)
    function = getattr(module, name, None)
    if not callable(function):
        public = {n: v for n, v in vars(module).items() if callable(v) and not n.startswith("_")}
        own = [n for n, v in public.items() if getattr(v, "__module__", "") == module.__name__]
        functions = own or list(public)
        called = name.partition("(")[0]  # as in Python: make(16)
        close = [*like(called, functions), KINDS[what].upper()]
        if called != name:
            close = [f"{close[0]}?ARGUMENT=VALUE"]
        raise InputError(
            f"the module has no such {KINDS[what]}",
            found=f"no {name!r} in {source}",
            expected=f"one of {choices(functions)}" if functions else "a function or class",
            fix=f"--{what} {shlex.quote(f'{source}:{close[0]}')}",
        )
    return function


def installed(package: str, found: str, use: str) -> Any:
    """Import a package that may be missing; an InputError where it is."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{package} is not installed",
            found=found,
            expected=f"the package {package}, which {use} it",
            fix=f"pip install {package}",
        ) from error


@contextmanager
def blamed(what: str, *, found: str, expected: str, fix: str) -> Iterator[None]:
    """Turn any exception in someone else's code into an InputError with its place."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        found = f"{found}: {with_place(error)}"
        raise InputError(what, found=found, expected=expected, fix=fix) from error


def with_place(error: Exception) -> str:
    """An exception in someone else's code as text, with the place where it was raised."""
    said = described(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent.parent)
    theirs = [f for f in frames if ours not in f.filename and "importlib" not in f.filename]
    if isinstance(error, SyntaxError) or not theirs:
        return said  # it names the line itself, or there is none
    return f"{said} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"


def _module_of_file(path: Path, what: str) -> ModuleType:
    if not is_file(path):
        raise InputError(
            f"the {what}'s Python file is missing",
            found=f"no file {path}",
            expected=f"FILE.py:{KINDS[what].upper()}",
            fix=f"--{what} path/to/{what}.py:{KINDS[what].upper()}",
        )
    name = f"_analyze_{what}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        with blamed(
            f"the {what}'s Python file cannot be imported",
            found=str(path),
            expected=f"a file that Python runs without an error: python {path}",
            fix="mend the file, or install what it imports",
        ):
            spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _module_of_package(source: str, what: str) -> ModuleType:
    name = KINDS[what].upper()
    with blamed(
        f"the {what}'s package cannot be imported",
        found=repr(source),
        expected=f"package.module:{name} with a package that is installed, or FILE.py:{name}",
        fix=f"pip install {source.strip('.').partition('.')[0]}, or give the file's path",
    ):
        return importlib.import_module(source)
