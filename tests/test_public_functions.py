"""What the package shows by ``dir``, and the example in each docstring, which is run."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import analyze
from analyze import figures
from analyze.errors import InputError
from analyze.figures import choice
from analyze.figures.entry import FigureEntry
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN
from analyze.models.building import build_model
from analyze.specs.model import ModelSpec
from scripts import api
from tests.conftest import SPEC, small_probes
from tests.trees import make_tree

EXAMPLE = re.compile(r"^Example:\n +``(.+?)``", re.MULTILINE | re.DOTALL)
MODULES = ("figures", "probes", "statistics")


def public_functions() -> list[str]:
    """The functions of the package and of its public modules, each by its shortest name."""
    places = [(analyze, "analyze"), *((getattr(analyze, m), f"analyze.{m}") for m in MODULES)]
    named = {}
    for place, prefix in places:
        for name in place.__all__:
            if inspect.isroutine(function := getattr(place, name)):
                named.setdefault(function, f"{prefix}.{name}")
    return list(named.values())


def marked(names: list[str]) -> list[object]:
    """Those that take seconds, and are tried elsewhere in other words, for the night."""
    long = {"analyze.report", "analyze.check", "analyze.compare"}
    return [pytest.param(n, marks=pytest.mark.nightly) if n in long else n for n in names]


@pytest.fixture(scope="module")
def place(measured, tmp_path_factory) -> Path:
    """A directory with what the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(measured.path, folder / "runs" / "half_noise")
    shutil.copytree(measured.path, folder / "runs" / "new")
    (folder / "runs" / "new" / "run.toml").unlink()
    shutil.copy(measured.probes, folder / "runs" / "probes.safetensors")
    shutil.copy(measured.probes, folder / "probes.safetensors")
    along = ("--directions", "all", "--output", str(folder / "half_noise.h5"))
    assert measured.run(*along).exit_code == 4
    shutil.copy(folder / "half_noise.h5", folder / "real_labels.h5")
    return folder


@pytest.fixture(scope="module")
def names(place) -> dict[str, object]:
    """The names that the examples take for granted."""
    probes, model = small_probes(), build_model(ModelSpec.parse(SPEC))
    results = analyze.open_results(place / "half_noise.h5")
    return {
        "analyze": analyze, "net": model, "model": model, "probes": probes,
        "inputs": probes.inputs, "targets": probes.targets, "training": lambda: range(2),
        "results": results, "a": analyze.statistics.estimate(results),
    }  # fmt: skip


def function_of(name: str):
    found = analyze
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", marked(public_functions()))
def test_the_example_of_a_docstring_runs(name, place, names, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    if name == "analyze.run":  # it writes over what the others read
        shutil.copytree(place / "runs", tmp_path / "runs")
        monkeypatch.chdir(tmp_path)
    found = EXAMPLE.search(inspect.getdoc(function_of(name)))
    assert found, f"no example in the docstring of {name}"
    code = " ".join(found[1].split())
    assert f"{name}(" in code
    eval(code, dict(names))


def test_the_page_of_functions_is_that_of_the_docstrings():
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run scripts/api"


def test_the_page_has_every_public_name_once():
    titles = [line for line in api.page().splitlines() if line.startswith("### ")]
    assert len(set(titles)) == len(titles)
    assert {f"### {name}" for name in public_functions()} <= set(titles)
    links = set(re.findall(r"\(#(\w+)\)", api.contents()))
    assert links <= {re.sub(r"[^\w]", "", title).lower() for title in titles}


def test_what_there_is_can_be_found():
    for module in (analyze, *(getattr(analyze, name) for name in MODULES)):
        for name in dir(module):
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", analyze.__version__)


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[str, object]]:
    """What would be drawn: the names of entries, and their choices."""
    calls = []

    def noting(entry: FigureEntry) -> FigureEntry:
        @wraps(entry.draw)
        def draw(tree, choice):
            calls.append((entry.name, choice))
            return Figure()

        return replace(entry, draw=draw)

    for table in ("OF_A_RUN", "OF_A_COMPARISON"):
        monkeypatch.setattr(choice, table, [noting(entry) for entry in getattr(choice, table)])
    return calls


def test_each_figure_is_drawn_by_its_name_and_by_that_of_its_file(measured, drawn):
    tree = analyze.open_results(measured.output)
    there = [entry for entry in OF_A_RUN if entry.choices(tree, None)]
    assert [entry.title for entry in there] == list(figures.titles(tree).values())
    for entry in there:
        for name in (entry.name, entry.draw.__module__.rpartition(".")[2]):
            analyze.plot(tree, name)
    analyze.plot(tree)
    names = [entry.name for entry in there]
    assert [name for name, _ in drawn] == [n for n in names for _ in range(2)] + names[:1]


def test_a_figure_shows_training_along_what_is_asked_for():
    tree = make_tree(steps=range(4), epochs=[0, 0.5, 1, 1.5])
    labels = {x: analyze.plot(tree, x=x).axes[-1].get_xlabel() for x in ("epoch", "loss", None)}
    assert labels == {
        "epoch": "epoch", "loss": "mean loss of all training probes (nats)", None: "optimizer step",
    }  # fmt: skip


def test_figures_of_a_comparison(measured, drawn):
    tree = analyze.open_results(measured.output)
    comparison = analyze.compare({"a": tree, "b": tree})
    assert list(figures.titles(comparison))[:2] == [OF_A_COMPARISON[0].name, "ratio_1"]
    for name in (None, "ratio_1", "ratio", "layers_2"):
        analyze.plot(comparison, name)
    pair, subset = "b / a", str(comparison["subset"].values[1])
    assert drawn == [("training", []), ("ratio", pair), ("ratio", pair), ("layers", subset)]


def test_a_figure_that_is_not_there_is_refused_with_the_names(measured):
    tree = analyze.open_results(measured.output)
    with pytest.raises(InputError, match="no such figure of these results") as refused:
        analyze.plot(tree, "layer_heat")
    listed = refused.value.expected.removeprefix("one of ").split(", ")
    assert sorted(listed) == sorted(figures.titles(tree))
    assert listed[0].startswith("layer")
    assert refused.value.fix == "'layer_heatmap'"
    assert set(figures.titles(tree)) >= {"training", "layers", "layer_panels"}


def test_a_table_is_the_rows_of_show(measured, tmp_path):
    path = tmp_path / "layers.csv"
    tree = analyze.open_results(measured.output)
    text = analyze.to_csv(tree, path, layers=True, subset="all")
    assert path.read_text(encoding="utf-8") == text
    head, *lines = text.splitlines()
    rows = analyze.show(tree, layers=True, subset="all")
    assert head.split(",") == list(rows[0])
    assert len(lines) == len(rows)
    with pytest.raises(InputError, match="the table cannot be written"):
        analyze.to_csv(tree, path)  # other columns


def test_a_notebook_shows_a_figure_that_is_the_value_of_a_cell(measured):
    """Its backend, once loaded, tells IPython how; nothing loads it but pyplot, and we."""
    pytest.importorskip("IPython")
    pytest.importorskip("matplotlib_inline")
    code = (
        "import analyze\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        f"figure = analyze.plot({str(measured.output)!r})\n"
        "data, _ = shell.display_formatter.format(figure)\n"
        "assert 'image/png' in data, list(data)\n"
    )
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
