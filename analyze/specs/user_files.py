"""The files of the user's own Python: the file that a spec names, and all that it imports.

Imports are read from the code, not from this process, whose imports depend on what else it does.
Installed libraries have a version and are not followed.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from analyze.files.whole import real_path

MOST = 2000  # files; more are no user's own code


def files_of(source: str) -> list[Path]:
    """The file of a spec's source, then by their paths those of the user that it imports.

    The source is the path of a Python file or the name of a module; without a file there are none.
    """
    if source.endswith(".py"):
        first, name, roots = real_path(Path(source)), Path(source).stem, [str(Path(source).parent)]
    else:
        specs = list(_modules(source, sys.path))
        file = _file_of(specs[-1]) if len(specs) > source.count(".") else None
        if file is None:
            return []
        first, name, roots = file, source, []
    in_package = "." in source and not source.endswith(".py")
    modules = {first: name}
    waiting = [first]
    while waiting and len(modules) < MOST:
        path = waiting.pop()
        package = modules[path] if path.name == "__init__.py" else modules[path].rpartition(".")[0]
        for imported in _imports(path, package):
            for spec in _modules(imported, [*roots, *sys.path]):
                file = _file_of(spec)
                if file is None or file in modules:
                    continue
                if _is_users(file) or (in_package and first.parent in file.parents):
                    modules[file] = spec.name
                    waiting.append(file)
    return [first, *sorted(set(modules) - {first})]


def _is_users(path: Path) -> bool:
    installed = {
        sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    places = [real_path(Path(place)) for place in installed if place]
    ours = real_path(Path(__file__)).parent.parent
    return not any(path.is_relative_to(place) for place in [*places, ours])


def _imports(path: Path, package: str) -> Iterator[str]:
    """The dotted names that a file imports anywhere; for ``from a import b`` ``a`` and ``a.b``."""
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


def _modules(name: str, roots: list[str]) -> Iterator[ModuleSpec]:
    """A module's packages, then the module, as far as they exist; none is imported."""
    places, parts = roots, name.split(".")
    for count in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(".".join(parts[:count]), places)
        except (ImportError, ValueError, AttributeError):
            return
        if spec is None:
            return
        yield spec
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _file_of(spec: ModuleSpec) -> Path | None:
    """A module's file; None for namespaces and built-in modules."""
    path = Path(spec.origin or "")
    return real_path(path) if path.is_file() else None
