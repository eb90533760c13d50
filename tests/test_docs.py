"""Every command, option and public function says what it does, with an example."""

from __future__ import annotations

import builtins
import dis
import inspect
import re
import shlex
import textwrap
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType

import click
import pytest

import analyze
from analyze import statistics
from analyze.checkpoints.options import FindingKeywords, ReadingOptions
from analyze.cli import main
from analyze.keywords import keywords
from analyze.probes.freezing.recipe import Recipe
from analyze.runs.options import Keywords, Options, RunKeywords, RunOptions
from analyze.statistics import labelled_examples as examples
from analyze.statistics.variables import VARIABLES
from analyze.statistics.warnings import FLAGS, KINDS
from scripts import architecture
from tests.conftest import call

ROOT = Path(__file__).parent.parent
PAGES = sorted([
    *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "sample_checkpoints").glob("*.md"),
])  # fmt: skip
TODAY = [page for page in PAGES if not {"CHANGELOG.md", "adr"} & set(page.parts)]
NAMED_FILE = re.compile(r"`((?:analyze|tests|scripts|benchmarks|docs)/[\w./-]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command by its words, those of groups as well."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_with_an_example_that_parses(name):
    text = call(*name.split(), "--help").stdout
    example = re.search(r"Example: (analyze .*?)(?=\n\n|\n  \n|\nOptions)", text, re.DOTALL)
    assert example is not None
    words = shlex.split(example[1])
    assert words[1 : 1 + len(name.split())] == name.split()
    arguments = words[1 + len(name.split()) :]
    COMMANDS[name].make_context(name, arguments)  # refuses options that do not exist
    assert COMMANDS[name].get_short_help_str(100).rstrip(".")
    assert "\\" not in text  # a marker of click, printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name):
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith("."), option.help


def test_the_program_has_help():
    result = call("--help")
    assert result.exit_code == 0
    assert "analyze run RUN" in result.stdout
    for name in COMMANDS:
        assert name.split()[0] in result.stdout
    assert call("-h").stdout == result.stdout


def test_version():
    from importlib.metadata import version

    assert call("--version").stdout == f"analyze, version {version('gradient-coherence')}\n"


@pytest.mark.parametrize("name", analyze.__all__)
def test_a_public_function_explains_every_argument(name):
    public = getattr(analyze, name)
    for argument in inspect.signature(public).parameters:
        assert re.search(rf"^ +{argument}: .+", public.__doc__, re.MULTILINE), argument


# What a command has besides its function: its arguments, how to print, and how long.
BESIDE: dict[str, set[str]] = {
    "scan": {"run", "as_json"}, "init": {"run"}, "check": {"run", "as_json"}, "run": {"run"},
    "status": {"results", "as_json", "watch"},
    "show": {"results", "as_json", "as_comma", "verify"},
    "examples": {"results", "as_json", "csv_file", "first"},
    "report": {"results"}, "compare": {"results"},
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_a_command_is_the_function_of_its_name(name):
    """With the same names and the same defaults, and with nothing else that changes a number."""
    function = inspect.signature(getattr(analyze, name)).parameters
    options = COMMANDS[name].make_context(name, ["a"]).params
    for keyword, parameter in function.items():
        if parameter.kind is parameter.KEYWORD_ONLY and keyword != "progress":
            assert (options.pop(keyword) or None) == (parameter.default or None), keyword
    assert options.keys() == BESIDE[name]


def test_probes_are_built_by_the_fields_of_a_recipe():
    options = COMMANDS["probes build"].make_context("build", ["a", "--data", "b"]).params
    assert options.keys() == keywords(Recipe).keys() | {"output", "overwrite"}
    for name, field in keywords(Recipe).items():
        assert name == "data" or (options[name] or None) == (field.default or None), name


def choices() -> list[tuple[str, str, Collection[str]]]:
    """The options of commands on results that offer a choice: command, keyword, values."""
    return [
        (name, option.name, option.type.choices)
        for name in ("show", "report", "compare")
        for option in COMMANDS[name].params
        if isinstance(option.type, click.Choice)
    ]


@pytest.mark.parametrize(("name", "keyword", "values"), choices())
def test_a_command_offers_what_its_function_takes(name, keyword, values, measured):
    files = measured.output if name != "compare" else {"a": measured.output, "b": measured.output}
    with pytest.raises(analyze.InputError) as caught:
        getattr(analyze, name)(files, **{keyword: "nothing of these"})
    assert caught.value.expected == f"one of {', '.join(values)}"


def test_keywords_for_type_checkers_are_the_fields_of_the_options():
    assert RunKeywords.__annotations__.keys() == keywords(RunOptions).keys()
    assert Keywords.__annotations__.keys() == keywords(Options).keys()
    assert (
        FindingKeywords.__annotations__.keys()
        == keywords(ReadingOptions, ("rename", "ignore")).keys()
    )


def test_measure_has_the_defaults_of_a_run():
    run = inspect.signature(analyze.run).parameters
    for name, parameter in inspect.signature(analyze.measure).parameters.items():
        if name not in ("model", "probes", "loss", "step", "epoch"):
            assert parameter.default == run[name].default


def test_an_unknown_keyword_is_refused(tiny):
    with pytest.raises(TypeError, match="unexpected keyword argument 'fold'"):
        analyze.run(tiny.path, fold=3)


PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*VARIABLES, FLAGS, *(kind.name for kind in KINDS)])
def test_every_quantity_is_explained(name):
    assert f"`{name}`" in PAGE


def test_every_variable_and_option_is_named_in_the_docs(measured):
    pages = "".join(page.read_text(encoding="utf-8") for page in TODAY)
    of_results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8") + PAGE
    groups = analyze.open_results(measured.output).subtree
    variables = {str(name) for group in groups for name in group.dataset.variables}
    assert [v for v in sorted(variables) if not re.search(rf"\b{v}\b", of_results)] == []
    options = {
        word
        for command in COMMANDS.values()
        for parameter in command.params
        for word in parameter.opts
        if word.startswith("--")
    }
    assert [o for o in sorted(options) if not re.search(rf"{o}(?![\w-])", pages)] == []


@pytest.mark.parametrize("name", examples.MEANINGS)
def test_every_quantity_of_single_examples_is_explained(name):
    assert f"`{name}`" in PAGE


def test_the_letters_of_the_warnings_are_those_of_the_page():
    for kind in KINDS:
        assert f"| `{kind.name}` | {kind.mark} |".replace("|  |", "| |") in PAGE


@pytest.mark.parametrize("name", statistics.__all__)
def test_a_statistical_function_explains_itself(name):
    assert len(getattr(statistics, name).__doc__.splitlines()) > 5


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in addresses: in lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    for path, anchor in LINK.findall(prose(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", TODAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for path in NAMED_FILE.findall(prose(page)):
        assert (ROOT / path).exists(), path


TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("message", re.findall(r"^\*\*(.+?)\.\*\*", TROUBLES, re.MULTILINE))
def test_a_message_that_is_explained_is_one_of_the_program(message):
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "analyze").rglob("*.py"))
    assert any(f'"{message}' in text for text in sources)


def test_the_folders_and_the_picture_of_the_architecture_are_those_of_today():
    """Otherwise run ``scripts/architecture``."""
    graph = architecture.folders(architecture.imports(ROOT / "analyze"))
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert architecture.written(page, graph) == page
    assert architecture.arrows_drawn(graph) in architecture.PICTURE.read_text(encoding="utf-8")


RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = list(re.finditer(r"^ +```python\n(.*?)^ +```", RECIPES, re.MULTILINE | re.DOTALL))


def globals_of(code: CodeType) -> Iterator[str]:
    """The names that code takes from its module."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[1].split("\n")[0].strip())
def test_the_code_of_a_recipe_finds_every_name_where_it_is_to_stand(block):
    """In a file of its own, or in the file that is named before it."""
    text = textwrap.dedent(block[1])
    space = {"__name__": "recipe"}
    if not text.startswith('"""'):
        path = re.findall(r"`((?:analyze|tests)/[\w/]+)\.py`", RECIPES[: block.start()])[-1]
        space |= vars(import_module(path.replace("/", ".")))
    code = compile(text, "CONTRIBUTING.md", "exec")
    exec(code, space)
    assert set(globals_of(code)) <= space.keys() | vars(builtins).keys()
