"""The tree tells the story: imports run one way, files are short, every folder says what it is."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import analyze
from scripts.architecture import imported, modules

SOURCE = Path(analyze.__file__).parent
SPLIT = ("gradients", "checkpoints")  # whose folders and loose modules are stages of their own
WITHOUT_TORCH = ("statistics", "results", "rankings", "figures", "pages", "reports", "comparison")
LONGEST = 400  # lines of a file


MODULES = modules(SOURCE)
IMPORTS = {name: set(imported(path, MODULES)) for name, path in MODULES.items()}


def stage_of(name: str) -> str:
    """The folder at the top that a module is in; below the split ones their own folders."""
    parts = name.split(".")[1:3]
    if not parts:
        return "analyze"
    return ".".join(parts) if parts[0] in SPLIT else parts[0]


def between(groups: dict[str, str]) -> dict[str, set[str]]:
    """Which group of modules imports which other ones."""
    graph: dict[str, set[str]] = {group: set() for group in groups.values()}
    for name, names in IMPORTS.items():
        graph[groups[name]] |= {groups[i] for i in names & MODULES.keys()} - {groups[name]}
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
        roots = {other.partition(".")[0] for other in IMPORTS[name]}
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


NAMED = {"cuda", "mps", "xpu"}
OF_BACKENDS = ("torch.cuda", "torch.mps", "torch.xpu")
MAY_NAME = (
    "analyze.gradients.device.devices",
    "analyze.gradients.step.full_precision",  # torch's word there for cuBLAS and cuDNN
)


def names_of_devices(path: Path) -> list[str]:
    """Where a module knows devices by name: a kind that is compared, and torch's module of one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        text = ast.unparse(node)
        compared = isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Constant) and isinstance(side.value, str)
            for side in (node.left, *node.comparators)
        )
        if (
            (isinstance(node, ast.Constant) and node.value in NAMED)
            or (compared and ("device" in text or ".type " in text) and "'cpu'" in text)
            or (isinstance(node, ast.Attribute) and text.startswith(OF_BACKENDS))
        ):
            found.append(f"{path.name}:{getattr(node, 'lineno', 0)} {text}")
    return found


def test_one_module_knows_devices_by_name():
    """What runs on CUDA runs on every accelerator: no other module asks which one it is."""
    found = {name: names_of_devices(path) for name, path in MODULES.items() if name not in MAY_NAME}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "line",
    ['x.device.type == "cpu"', '"cpu" != device', 'limits["cuda"]', "torch.cuda.synchronize()",
     'device in ("cuda", "xpu")', "torch.mps.seed()"],
)  # fmt: skip
def test_a_name_of_a_device_is_found(line, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(line)
    assert names_of_devices(path)
