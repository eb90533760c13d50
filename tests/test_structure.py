"""The tree tells the story: imports run one way, files are short, every folder says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import analyze

SOURCE = Path(analyze.__file__).parent
SPLIT = ("gradients", "checkpoints")  # whose folders and loose modules are stages of their own
WITHOUT_TORCH = ("statistics", "results", "figures", "pages", "reports", "comparison")
LONGEST = 640  # lines of a file


def name_of(path: Path) -> str:
    """The dotted name of a module below ``analyze``; a package has the name of its folder."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCE.rglob("*.py")}


def imports_of(name: str) -> Iterator[str]:
    """Modules that a module imports, also inside functions and for types alone."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {name}"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


IMPORTS = {name: set(imports_of(name)) for name in MODULES}


def stage_of(name: str) -> str:
    """The folder at the top that a module is in; below the split ones their own folders."""
    parts = name.split(".")[1:3]
    if not parts:
        return "analyze"
    return ".".join(parts) if parts[0] in SPLIT else parts[0]


def between(groups: dict[str, str]) -> dict[str, set[str]]:
    """Which group of modules imports which other ones."""
    graph: dict[str, set[str]] = {group: set() for group in groups.values()}
    for name, imported in IMPORTS.items():
        graph[groups[name]] |= {groups[i] for i in imported & MODULES.keys()} - {groups[name]}
    return graph


def assert_one_way(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports in a circle: " + " <- ".join(error.args[1]))


def test_imports_between_folders_run_one_way():
    assert_one_way(between({name: stage_of(name) for name in MODULES}))


def test_imports_between_modules_run_one_way():
    assert_one_way(between({name: name for name in MODULES}))


@pytest.mark.parametrize("folder", WITHOUT_TORCH)
def test_what_shows_numbers_reaches_no_module_with_torch(folder):
    """Nor through what it imports."""
    waiting = [name for name in MODULES if stage_of(name) == folder]
    assert waiting
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        roots = {imported.partition(".")[0] for imported in IMPORTS[name]}
        assert not roots & {"torch", "torchvision", "timm", "transformers"}, name
        waiting += IMPORTS[name] & MODULES.keys()


def test_files_are_short():
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lengths.items() if count > LONGEST} == {}


@pytest.mark.parametrize("name", sorted(n for n, p in MODULES.items() if p.stem == "__init__"))
def test_every_folder_says_in_a_line_what_is_in_it(name):
    line = (ast.get_docstring(ast.parse(MODULES[name].read_text("utf-8"))) or "").partition("\n")[0]
    assert len(line) > 20
    assert line.endswith(".")


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in MODULES.values()}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
