"""The files that the user's own Python is made of: what a spec names, and all that it imports.

Imports are read from the code, not from what this process has imported: that depends on what else
it does. What is installed is a library, with a version, and is not followed.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from analyze.files.links import real_path

MOST = 2000  # files; beyond that it is no user's code


def files_of(source: str) -> list[Path]:
    """The files of a spec's source and of what it imports from the user's side, in fixed order.

    Args:
        source: The path of a Python file, or a module that can be imported.

    Returns:
        First the source's own file, then the others by their paths; empty where there is none.
    """
    if source.endswith(".py"):
        own, name, roots = real_path(Path(source)), Path(source).stem, [str(Path(source).parent)]
    else:
        spec = _located(source, sys.path)
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            return []
        own, name, roots = real_path(Path(spec.origin)), source, []
    found = {own: name}
    waiting = [own]
    while waiting and len(found) < MOST:
        path = waiting.pop()
        package = found[path] if path.name == "__init__.py" else found[path].rpartition(".")[0]
        for imported in _imports(path, package):
            for module, file in _chain(imported, [*roots, *sys.path]):
                if file not in found and (_is_users(file) or _beside(file, own, source)):
                    found[file] = module
                    waiting.append(file)
    return [own, *sorted(set(found) - {own})]


def _beside(file: Path, own: Path, source: str) -> bool:
    """Whether a file is of the same installed package as the source."""
    return "." in source and not source.endswith(".py") and own.parent in file.parents


def _is_users(path: Path) -> bool:
    installed = {
        sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    places = [real_path(Path(place)) for place in installed if place]
    ours = real_path(Path(__file__)).parent.parent
    return not any(path.is_relative_to(place) for place in [*places, ours])


def _imports(path: Path, package: str) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; of ``from a import b`` both."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            above = ".".join(parts) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            yield base
            yield from (f"{base}.{name.name}" for name in node.names if base)


def _chain(name: str, roots: list[str]) -> Iterator[tuple[str, Path]]:
    """The files of a module and of the packages that it is in, as far as there are any."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = _located(".".join(parts[:count]), roots)
        if spec is None:
            return
        if spec.origin is not None and Path(spec.origin).is_file():
            yield spec.name, real_path(Path(spec.origin))


def _located(name: str, roots: list[str]) -> ModuleSpec | None:
    """Where a module is, without importing it."""
    places: list[str] | None = roots
    spec = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        if places is None:
            return None
        try:
            spec = PathFinder.find_spec(".".join(parts[:count]), places)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None:
            return None
        inner = spec.submodule_search_locations
        places = None if inner is None else list(inner)
    return spec
