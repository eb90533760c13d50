"""The table of figures: every entry is drawn, has words of its own, and is in files and pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

import analyze
import analyze.figures
from analyze.comparison import page as comparison_page
from analyze.figures.entry import FigureEntry
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN, comparison_figures, run_figures
from analyze.reports import page as report_page
from tests.synthetic import synthetic
from tests.trees import make_tree, pictures

ROOT = Path(__file__).parent.parent
SIZES = {"layers": 2, "checkpoints": 4, "subsets": 3, "probes": 20, "folds": 3}


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return synthetic(**SIZES, skipped=(2,))


@pytest.fixture(scope="module")
def comparison() -> xr.DataTree:
    runs = {f"seed {k}": synthetic(seed=k, **SIZES) for k in range(4)}
    return analyze.compare(runs, groups={"both": ["seed 0", "seed 1"]})


def stands_below_its_title(ax: Axes) -> bool:
    """Whether nothing of the axes is above them, where the style has titles stand."""
    if not any(ax.get_title(loc) for loc in ("left", "center", "right")):
        return True
    ticks = ax.xaxis.get_tick_params()
    above = ticks.get("top") or ticks.get("labeltop") or ax.xaxis.get_label_position() == "top"
    # A common factor of its labels, 1e-5, stands above an axis.
    factor = len(ax.get_yticks()) and isinstance(ax.yaxis.get_major_formatter(), ScalarFormatter)
    return not (above or factor)


def check(table: tuple[FigureEntry, ...], tree: xr.DataTree, figures: dict[str, Figure]) -> None:
    assert [name for entry in table for name in entry.drawn(figures)] == list(figures)
    for entry in table:
        drawn = entry.drawn(figures)
        assert drawn, entry.name
        assert all(figure.axes for figure in drawn.values())
        assert all(map(stands_below_its_title, [ax for f in drawn.values() for ax in f.axes]))
        assert entry.caption_of(tree).endswith(".")


def test_a_full_run_has_every_figure_of_the_table(run):
    check(OF_A_RUN, run, run_figures(run))


def test_a_full_comparison_has_every_figure_of_the_table(comparison):
    check(OF_A_COMPARISON, comparison, comparison_figures(comparison))


def test_figures_that_do_not_apply_are_left_out():
    tree = make_tree(steps=(0, 1), subsets=("train",), held_out=())
    assert list(run_figures(tree, "loss")) == ["training", "layers", "profile", "layer_panels"]
    two = analyze.compare({k: synthetic(seed=len(k), **SIZES) for k in ("a", "bb")})
    names = ["training", "ratio_1", "layers_1", "layers_2", "layers_3", "layers_4"]
    assert list(comparison_figures(two)) == names


def test_every_file_with_a_figure_is_in_the_table():
    folder = Path(analyze.figures.__file__).parent
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    with_figure = {name for name, text in texts.items() if "\nFIGURE = " in text}
    listed = {entry.draw.__module__.rpartition(".")[2] for entry in (*OF_A_RUN, *OF_A_COMPARISON)}
    assert with_figure == listed


@pytest.mark.parametrize("table", [OF_A_RUN, OF_A_COMPARISON])
def test_names_and_titles_differ(table):
    names, titles = [entry.name for entry in table], [entry.title for entry in table]
    assert len(set(names)) == len(set(titles)) == len(table)
    assert not [n for n in names for other in names if n.startswith(f"{other}_")]


def test_the_report_shows_every_figure_with_its_title_and_caption(run):
    shown = pictures(*(entry.name for entry in OF_A_RUN))
    html = report_page.render_page(run, shown).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    html = html.replace("&#39;", "'")
    for entry in OF_A_RUN:
        assert html.count(f'aria-label="{entry.title_of(run)}"') == 1
        assert entry.caption_of(run) in html
        assert entry.leading or f">{entry.title_of(run)}</figcaption>" in html


def test_the_comparison_shows_the_figures_that_belong_to_it(comparison):
    names = (f"{entry.name}_1" if entry.each else entry.name for entry in OF_A_COMPARISON)
    shown = pictures(*names)
    html = comparison_page.render_page(comparison, shown)
    for entry in OF_A_COMPARISON:
        assert (f'aria-label="{entry.title_of(comparison)}"' in html) == (entry.section == "static")
        assert (entry.caption_of(comparison) in html) == (entry.section == "static")


def test_every_file_of_a_comparison_is_explained_in_the_docs():
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    for entry in OF_A_COMPARISON:
        assert f"| `{entry.name}{'_N' * (entry.each is not None)}` |" in page, entry.name
