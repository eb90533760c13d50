"""What importing costs: torch where something is measured, and nowhere else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import analyze
from tests.checkpoint_files import FOREIGN
from tests.test_layouts import EXAMPLES

SOURCE = Path(analyze.__file__).parent
COMMANDS = [
    "scan", "init", "check", "run", "status", "show", "report", "compare", "probes build",
    "probes show",
]  # fmt: skip
LIGHT = [
    "analyze", "analyze.cli", "analyze.cli.tables", "analyze.comparison", "analyze.errors",
    "analyze.figures", "analyze.probes", "analyze.reports", "analyze.results.file",
    "analyze.results.rows", "analyze.results.tree", "analyze.specs.run_card",
    "analyze.statistics", "analyze.statistics.arrays", "analyze.statistics.labelled",
    "analyze.text",
]  # fmt: skip

PAGE_ONLY = """
from functools import partial
from analyze.pages import writing
writing.rendered = partial(writing.rendered, kinds=("svg",))
"""


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh Python has after running some code."""
    script = f"import sys\n{code}\nprint('\\n'.join(['', *sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def command(*arguments: str) -> str:
    return f"from analyze.cli import main\nmain({list(arguments)!r}, standalone_mode=False)"


def test_no_torch_without_measuring():
    everything = "\n".join(f"import {name}" for name in LIGHT)
    assert "torch" not in loaded_by(f"{everything}\nfrom analyze import ProbeSet, open_results")


def loads_none_of(unwanted: set[str], commands: list[list[str]]) -> set[str]:
    """The modules of a Python that ran the commands, none of which has loaded an unwanted one."""
    look = f"\nloaded = sys.modules.keys() & {unwanted!r}\nassert not loaded, "
    return loaded_by("\n".join(command(*words) + look + repr(words) for words in commands))


def test_no_torch_for_help():
    commands = [[*name.split(), "--help"] for name in ("", *COMMANDS)]
    loads_none_of({"torch", "numpy", "xarray", "matplotlib"}, commands)


@FOREIGN
def test_no_torch_to_scan(tmp_path):
    commands = []
    for layout, write in EXAMPLES.items():
        (tmp_path / layout).mkdir()
        write(tmp_path / layout)
        commands.append(["scan", str(tmp_path / layout)])
    unwanted = {"torch", "torchvision", "h5py", "xarray", "matplotlib"}
    assert "analyze.checkpoints.scan" in loads_none_of(unwanted, commands)


def test_a_command_that_loads_torch_is_noticed():
    with pytest.raises(AssertionError, match=r"\['scan', '--help'\]"):
        loads_none_of({"click"}, [["scan", "--help"]])


def test_no_torch_for_what_is_measured(measured, tmp_path):
    results, page = str(measured.output), tmp_path / "report"
    shows = [command("show", results, *options) for options in ([], ["--layers"], ["--json"])]
    shows.append(command("status", results))
    report = command("report", results, "--output", str(page))
    loaded = loaded_by("\n".join([*shows, PAGE_ONLY, report]))
    assert not loaded & {"torch", "matplotlib.pyplot"}
    assert "matplotlib" in loaded
    assert (page / "index.html").is_file()


def test_measuring_needs_torch_and_no_model_zoo(measured, tmp_path):
    arguments = ["run", str(measured.path), "--folds", "1", "--checkpoints", ":1"]
    arguments += ["--device", "cpu", "--output", str(tmp_path / "out.h5")]
    loaded = loaded_by(command(*arguments))
    assert "torch" in loaded
    others = {"torchvision", "timm", "transformers", "ray", "matplotlib", "jinja2", "sympy"}
    assert not loaded & others


def test_the_zoos_are_imported_where_a_spec_asks_for_them_only():
    places = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
        if name.partition(".")[0] in ("timm", "torchvision", "transformers")
    }  # fmt: skip
    assert places <= {
        "models/building.py", "models/huggingface.py",
        "probes/freezing/data.py", "probes/freezing/transforms.py",
    }  # fmt: skip


def test_public_names():
    assert dir(analyze) == sorted([
        "InputError", "ProbeSet", "check", "compare", "concat", "examples", "figures", "init",
        "measure", "open_results", "plot", "probes", "report", "run", "scan", "show", "statistics",
        "status", "to_csv", "__version__",
    ])  # fmt: skip
    for name in analyze.__all__:
        assert callable(getattr(analyze, name))
        assert getattr(analyze, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        analyze.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("name", "keyword"), [("run", "outptu"), ("check", "output"), ("scan", "rename")]
)
def test_a_keyword_that_does_not_exist_is_refused_under_the_functions_name(name, keyword):
    with pytest.raises(TypeError, match=rf"^{name}\(\) .*'{keyword}'"):
        getattr(analyze, name)("a run", **{keyword: 1})


def test_text_with_commas_stands_for_several_values(measured):
    rows = analyze.show(measured.output, subset="clean,corr*")
    assert {row["subset"] for row in rows} == {"clean", "corrupted"}
