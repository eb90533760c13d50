"""The user's own Python: ``FILE.py:NAME`` or ``package.module:NAME``, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from analyze.errors import InputError, listed

KINDS = {
    "model": "factory",
    "loss": "function",
    "data": "function",
    "transform": "function",
}  # what users' code is for, and what it holds


def load_function(source: str, name: str, what: str) -> Callable[..., Any]:
    """What ``source`` calls ``name``.

    Args:
        source: The path of a Python file, or a module that is installed.
        name: A function or class in it.
        what: What it is for, ``model`` or ``loss``: also the option that names it.

    Raises:
        InputError: no such file or module, an error in it, or nothing callable of that name.
    """
    if source.endswith(".py"):
        module = _module_of_file(Path(source), what)
    else:
        module = _module_of_package(source, what)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(
            f"the module has no such {KINDS[what]}",
            found=f"no {name!r} in {source}",
            expected=f"one of {listed(functions)}" if functions else "a function or class",
            fix=f"--{what} {source}:{functions[0] if functions else KINDS[what].upper()}",
        )
    return function


def told(error: Exception) -> str:
    """What an exception in someone else's code says, and where it was raised."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    said = f"{type(error).__name__}: {first}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent.parent)
    theirs = [f for f in frames if ours not in f.filename and "importlib" not in f.filename]
    if isinstance(error, SyntaxError) or not theirs:
        return said  # it names the line itself, or there is none
    return f"{said} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"


def _module_of_file(path: Path, what: str) -> ModuleType:
    if not path.is_file():
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
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"the {what}'s Python file cannot be imported",
            found=f"{path}: {told(error)}",
            expected=f"a file that Python runs without an error: python {path}",
            fix="mend the file, or install what it imports",
        ) from error
    finally:
        sys.path.pop(0)
    return module


def _module_of_package(source: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except Exception as error:  # not there, or whatever it raises
        raise InputError(
            f"the {what}'s package cannot be imported",
            found=f"{source!r}: {told(error)}",
            expected=f"package.module:{KINDS[what].upper()} with a package that is installed, or "
            f"FILE.py:{KINDS[what].upper()}",
            fix=f"pip install {source.strip('.').partition('.')[0]}, or give the file's path",
        ) from error
