"""The files of the user's own Python: the file that a spec names, and all that it imports.

Imports are read from the code, not from this process, whose imports depend on what else it does.
Besides statements these are calls that import a module, or a file, whose name is written there,
and directories that are put into ``sys.path``. Installed libraries have a version and are not
followed.
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
LONGEST = 1000  # characters of the name of a file in the code
DEFINING = (ast.ClassDef, ast.FunctionDef)
IMPORTING = ("import_module", "__import__")
INSTALLED = ("site-packages", "dist-packages")  # directories of libraries, of any environment


def files_of(source: str) -> list[Path]:
    """The file of a spec's source, then by their paths those of the user that it imports.

    The source is the path of a Python file or the name of a module; without a file there are none.
    """
    if source.endswith(".py"):
        first, name, roots = real_path(Path(source)), Path(source).stem, [str(Path(source).parent)]
        above: dict[Path | None, str] = {}
    else:
        specs = list(_modules(source, sys.path))
        file = _file_of(specs[-1][0]) if len(specs) > source.count(".") else None
        if file is None:
            return []
        first, name, roots = file, source, []
        above = {_file_of(spec): full for spec, full in specs[:-1]}
    in_package = "." in source and not source.endswith(".py")
    modules = {first: name} | {file: full for file, full in above.items() if file is not None}
    waiting, further = [*modules], list[str]()
    while waiting and len(modules) < MOST:
        path = waiting.pop()
        package = modules[path] if path.name == "__init__.py" else modules[path].rpartition(".")[0]
        tree = _parsed(path)
        if new := [root for root in _roots(tree, path.parent) if root not in further]:
            further += new
            waiting = [*modules]  # what was not there for one file is there now
        places = [*roots, *sys.path, *further]
        names = {*_imports(tree, package), *_called(tree, package), *_offered(tree, package)}
        specs = [spec for imported in sorted(names) for spec in _modules(imported, places)]
        files = [(_file_of(spec), full) for spec, full in specs]
        for file, full in [*files, *((file, file.stem) for file in _named(tree, path.parent))]:
            if file is None or file in modules:
                continue
            if _is_users(file) or (in_package and first.parent in file.parents):
                modules[file] = full
                waiting.append(file)
    return [first, *sorted(set(modules) - {first})]


def defined_in(path: Path) -> list[str]:
    """The classes and functions that a file of Python defines, classes first; none is run.

    Those of private names are left out; so is what it only imports.
    """
    tree = _parsed(path)
    found = [node for node in getattr(tree, "body", ()) if isinstance(node, DEFINING)]
    found.sort(key=lambda node: not isinstance(node, ast.ClassDef))
    return [node.name for node in found if not node.name.startswith("_")]


def _is_users(path: Path) -> bool:
    """Whether a file is none of an installed library's, be it of another environment's.

    An environment may see another's libraries: by ``--system-site-packages``, by a ``.pth`` file,
    by ``PYTHONPATH``.
    """
    if not set(INSTALLED).isdisjoint(path.parts):
        return False
    installed = {
        sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    places = [real_path(Path(place)) for place in installed if place]
    ours = real_path(Path(__file__)).parent.parent
    return not any(path.is_relative_to(place) for place in [*places, ours])


def _parsed(path: Path) -> ast.AST:
    """The code in a file; nothing where it cannot be read."""
    try:
        return ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ast.parse("")


def _called(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules that calls import by a name that is written there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last_name(node.func) in IMPORTING and node.args:
            name = getattr(node.args[0], "value", None)
            if isinstance(name, str) and name.strip("."):
                above = package.split(".")[: len(package.split(".")) - name.count(".", 0, 1) + 1]
                yield ".".join([*above, name[1:]]) if name.startswith(".") else name


def _offered(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules of a package that ``import *`` imports, as its ``__all__`` says."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if package and any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            yield from (f"{package}.{text}" for text in _texts(node))


def _roots(tree: ast.AST, folder: Path) -> Iterator[str]:
    """The directories that may be put into ``sys.path``: by any text in the call, around a file."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and "sys.path" in ast.unparse(node.func)):
            continue
        words = ["", *_texts(node)]
        for place in (folder, *list(folder.parents)[:2]):
            yield from (str(place / word) for word in words if (place / word).is_dir())


def _named(tree: ast.AST, folder: Path) -> Iterator[Path]:
    """The files of Python that are named beside a file, to be run or imported by their paths."""
    for text in _texts(tree):
        if text.endswith(".py") and (folder / text).is_file():
            yield real_path(folder / text)


def _texts(tree: ast.AST) -> Iterator[str]:
    """The short texts in code."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and len(text) < LONGEST and "\0" not in text:
            yield text


def _last_name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that code imports anywhere; for ``from a import b`` ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            above = ".".join(parts) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            yield base
            yield from (f"{base}.{name.name}" for name in node.names if base)


def _modules(name: str, roots: list[str]) -> Iterator[tuple[ModuleSpec, str]]:
    """A module's packages, then the module, as far as they exist, with names; none is imported.

    Each is looked for by the last part of its name: the finder would look for the packages of a
    dotted one among the imported modules.
    """
    places, parts = roots, name.split(".")
    for count in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(parts[count - 1], places)
        except (ImportError, ValueError, AttributeError, KeyError, OSError):
            return
        if spec is None:
            return
        yield spec, ".".join(parts[:count])
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _file_of(spec: ModuleSpec) -> Path | None:
    """A module's file; None for namespaces and built-in modules."""
    path = Path(spec.origin or "")
    return real_path(path) if path.is_file() else None
