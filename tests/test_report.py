"""The report: the page as a browser would read it, and its files."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.figures import layer_heatmap, network_over_training
from analyze.pages.embedding import script_hash
from analyze.pages.figures import rendered as files_of
from analyze.pages.skeleton import HERE, LIBRARIES
from analyze.pages.text import Value, breakable, cosine, in_words, loss, number, with_error
from analyze.reports import write_report
from analyze.reports.cosines import cosines
from analyze.reports.page import render_page
from analyze.reports.summary import (
    layer_summaries,
    skipped_checkpoints,
    subset_summaries,
)
from analyze.statistics.between_subsets import between_subsets
from analyze.statistics.warnings import describe, marks_of
from tests.synthetic import synthetic
from tests.trees import STEPS, make_tree, pictures, with_chance

DASH = "\N{EN DASH}"
EVIL = '<script>alert("x")</script>'
PROVENANCE = {
    "run": {"name": "half noise", "path": "runs/half_noise"},
    "model": {"spec": "builtin:small_resnet?num_classes=10"},
    "probes": {"path": "probes.safetensors", "sha256": "928869b3"},
    "batch_norm": "recomputed",
    "precision": "float32",
    "device": "cuda",
    "device_name": "some accelerator",
    "batch_size": 64,
    "versions": {"torch": "2.8.0"},
    "checkpoints": [
        {"checkpoint": "step_00000.pt", "format": "torch", "weights_key": "model", "sha256": "ab12"}
    ],
    "warnings": ["the batch norm statistics lag behind"],
    "plan": {"methods": {"conv1.weight": "conv2d", "fc.weight": "linear", "fc.bias": "linear"}},
    "proof": {
        "precision": "float64",
        "examples": 36,
        "relative_errors": {"conv1.weight": 2e-15, "fc.weight": 7e-15, "fc.bias": None},
        "zero_to_rounding": ["conv1.bias"],
        "unproven": ["head.scale"],
    },
}


SCRIPTS = 4 + 1  # theme, two libraries and the page's own; its data, which no browser runs


class Page(HTMLParser):
    """Tags, ids, text outside scripts and everything that would load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action"):
                self.loads.append(value)

    def handle_data(self, data):
        if self.cdata_elem != "script":
            self.words.append(data)


def without_libraries(html: str) -> str:
    """The page without the two scripts that are not ours, in which addresses name XML spaces."""
    for name in LIBRARIES:
        text = (HERE / "libraries" / name).read_text(encoding="utf-8")
        assert html.count(text) == 1
        html = html.replace(text, "")
    return html


def rendered(tree: xr.DataTree) -> str:
    """The page without the files of its figures."""
    figures = {"training": network_over_training.figure(tree), "layers": layer_heatmap.figure(tree)}
    return render_page(tree, {k: files_of(f, ["svg"])["svg"] for k, f in figures.items()})


def read(tree: xr.DataTree) -> Page:
    return Page(rendered(tree))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    tree = make_tree(
        provenance=PROVENANCE, skipped={3: "the file is damaged: no central directory"}
    )
    return write_report(tree, tmp_path_factory.mktemp("reports") / "half" / "noise")


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def test_the_files(written):
    assert written.name == "index.html"
    names = sorted(p.relative_to(written.parent).as_posix() for p in written.parent.rglob("*.*"))
    drawn = ("between_subsets", "layer_panels", "layers", "loss", "profile", "training")
    figures = [f"figures/{n}.{k}" for n in drawn for k in ("pdf", "png", "svg")]
    assert names == [*figures, "index.html"]
    png = (written.parent / "figures" / "training.png").read_bytes()
    assert int.from_bytes(png[16:20], "big") == 2070  # a page of 6.9 inches at 300 dpi


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_kind_of_file(monkeypatch):
    figure, drawn = network_over_training.figure(make_tree()), []
    draw, layout = Figure.draw, figure.get_layout_engine()
    execute = layout.execute
    monkeypatch.setattr(Figure, "draw", lambda f, r: (drawn.append(type(r).__name__), draw(f, r)))
    monkeypatch.setattr(layout, "execute", lambda f: (drawn.append("layout"), execute(f)))
    files_of(figure)
    assert Counter(drawn) == {"layout": 1, "MixedModeRenderer": 2, "RendererAgg": 1}


def test_the_page_shows_the_files_pictures(written):
    html = " ".join(written.read_text(encoding="utf-8").split())
    for name in ("training", "layer_panels"):
        svg = (written.parent / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        paths = re.findall(r'<path d="([^"]+)" clip-path', svg)
        assert paths
        assert all(" ".join(path.split()) in html for path in paths)


def test_the_page_refers_to_nothing_outside(written, page):
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert page.tags["script"] == SCRIPTS
    assert not page.tags["link"]
    html = without_libraries(written.read_text(encoding="utf-8"))
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_a_browser_may_run_the_pages_own_scripts_and_load_nothing(written):
    html = written.read_text(encoding="utf-8")
    policy = html[html.index("default-src") :].partition('">')[0].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == SCRIPTS - 1
    for script in scripts:
        assert script_hash(script) in policy


def test_licences_of_the_libraries_are_in_the_page(page):
    for words in ("Copyright 2010-2023 Mike Bostock", "Observable, Inc.", "Mikola Lysenko"):
        assert words in page.text


def test_figures_are_inline_with_ids_of_their_own(written, page):
    html = written.read_text(encoding="utf-8")
    html = re.sub("<script>.*?</script>", "", html, flags=re.DOTALL)
    assert page.tags["svg"] == 6
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | {x[1:] for x in page.loads if x[0] == "#"}
    assert used
    assert used <= set(page.ids)
    assert "<?xml" not in html
    assert "var(--c-0072b2, #0072b2)" in html


def test_the_words(page):
    for words in (
        "half noise",
        "builtin:small_resnet?num_classes=10",
        "12 checkpoints (1 skipped)",
        "1 of 12 checkpoints was skipped",
        "step_00003.pt step 16 the file is damaged: no central directory",
        "the batch norm statistics lag behind",
        "not proven against plain autograd, as the gradient was zero wherever it was compared: "
        "head.scale",
        "s t with 9 degrees of freedom",
        "cuda, some accelerator",
        "7.0e-15 (fc.weight), of 2 parameters",
        "linear 2, conv2d 1",
        "conv1.bias",
        "torch 2.8.0",
    ):
        assert words in page.text


def test_headline_and_cards_have_the_numbers(page):
    tree = make_tree(skipped={3: "damaged"})
    peak = tree["network"]["m_coherence"].sel(subset="all")
    at = int(np.nanargmax(peak.values))
    # All 1,000 probes as of 500, the smallest subset; the results have no test against chance.
    factor = 499 / 999
    value = Value(1 + factor * (float(peak[at]) - 1), factor * 0.1 * float(peak[at]), "", "")
    said = re.sub("<[^>]*>", "", in_words(value))
    assert f"m-coherence of 500 examples is {said} at step {STEPS[at]:,}, the highest" in page.text
    own = re.sub("<[^>]*>", "", in_words(Value(float(peak[at]), 0.1 * float(peak[at]), "", "")))
    assert f"of all 1,000 {own}" in page.text
    for name in ("clean", "corrupted", "held_out", "all"):
        assert f"{name} {re.sub('<[^>]*>', '', in_words(subset_summaries(tree)[name].peak))}" in (
            page.text
        )


def test_warnings_stand_at_the_values_they_concern():
    tree = with_chance(make_tree())
    assert not Page(rendered(make_tree())).tags["sup"]
    html = rendered(tree)
    page = Page(html)
    last = subset_summaries(tree)["held_out"].last
    assert last.marks == marks_of(
        float(tree["network"]["warning_flags"].sel(subset="held_out")[-1])
    )
    cards = subset_summaries(tree)
    values = [v for card in cards.values() for v in (card.peak, card.last) if v]
    for layer in layer_summaries(tree, list(cards)):
        values += [v for pair in layer.values for v in pair]
    assert page.tags["sup"] == sum(len(v.marks) for v in values) > 0
    assert "Raised letters are warnings: n cannot be told from chance" in page.text
    assert "Grey: 95 % of what comes by chance" in page.text
    for sentence in describe(tree):
        assert sentence in page.text
    assert page.text.index("In short") < page.text.index("the value shows no agreement")


def test_names_do_not_become_markup():
    tree = make_tree(
        steps=(0, 1, 2),
        subsets=(EVIL, "$\\frac$"),
        held_out=(),
        layers=(EVIL, "a&b", "layers." * 20 + EVIL),
        skipped={1: EVIL},
        provenance={
            "run": {"name": EVIL},
            "model": {"spec": EVIL},
            "warnings": [EVIL, "\x1b[0m\x00"],
            "proof": {"unproven": [EVIL]},
            "checkpoints": [{"checkpoint": "step_00000.pt", "prefix": EVIL}],
        },
    )
    html = rendered(tree)
    assert Page(html).tags["script"] == SCRIPTS
    assert EVIL in Page(html).text
    assert without_libraries(html).lower().count("<script") == SCRIPTS
    assert "\x1b" not in html
    assert "\x00" not in html


def test_steps_unknown_and_one_checkpoint():
    tree = make_tree(steps=(np.nan,), folds=1, provenance={"model": {"class": "ResNet"}})
    page = read(tree)
    assert "ResNet" in page.text
    assert "no error is known by which to tell it from chance" in page.text
    assert "step_00000.pt" in page.text
    assert "with a single fold there are none" in page.text


def test_all_steps_unknown():
    tree = make_tree(steps=(np.nan,) * 3, skipped={0: "damaged"})
    page = read(tree)
    assert "checkpoint, in order" in page.text


def test_nothing_measured():
    tree = make_tree(steps=(0, 1), skipped={0: "damaged", 1: "damaged"})
    page = read(tree)
    assert "No m-coherence could be measured" in page.text
    assert "2 of 2 checkpoints were skipped" in page.text


def test_many_skipped_checkpoints_are_folded_away():
    tree = make_tree(steps=range(30), skipped=dict.fromkeys(range(20), "damaged"))
    page = read(tree)
    assert "12 more" in page.text
    assert "step_00019.pt" in page.text


SHORT = (0, 1, 2)  # steps of a report that is soon drawn


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """The directory of a small report; not to be changed."""
    return write_report(make_tree(steps=SHORT), tmp_path_factory.mktemp("short")).parent


@pytest.fixture
def older(short, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(short, tmp_path / "older"))


@pytest.fixture(scope="module")
def rewritten(short, tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy over which it was written again, and its files in the order in which they came."""
    folder = Path(shutil.copytree(short, tmp_path_factory.mktemp("rewritten") / "report"))
    page, replace, names = folder / "index.html", Path.replace, []
    page.write_bytes(page.read_bytes() + b"\n")

    def recorded(self: Path, target: Path) -> Path:
        names.append(Path(target).name)
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", recorded)
        write_report(make_tree(steps=SHORT), folder)
    return folder, names


def test_the_same_results_replace_an_older_report_by_the_same_bytes(short, rewritten):
    for path in short.rglob("*.*"):
        other = rewritten[0] / path.relative_to(short)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_the_page_is_written_last(short, rewritten):
    *figures, last = rewritten[1]
    assert last == "index.html"
    assert sorted(figures) == sorted(path.name for path in short.glob("*/*"))
    assert len(figures) > 6


def test_another_page_is_not_replaced(older):
    page = older / "index.html"
    page.write_text("<h1>my site</h1>")
    with pytest.raises(InputError, match="another page"):
        write_report(make_tree(steps=SHORT), older)
    assert page.read_text() == "<h1>my site</h1>"


def test_a_report_that_fails_leaves_the_older_page(older, monkeypatch):
    before = (older / "index.html").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written") as caught:
        write_report(make_tree(steps=SHORT), older)
    assert "No space left on device" in caught.value.found
    assert (older / "index.html").read_bytes() == before
    assert not list(older.rglob("*.part"))


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(make_tree(steps=(0, 1)), tmp_path / "report")


def test_summaries():
    tree = make_tree(skipped={11: "damaged"})
    summary = subset_summaries(tree)["clean"]
    assert summary.last.where == "step 960"  # the last that was measured
    assert summary.loss == float(tree["loss"].sel(subset="clean")[10])
    assert [s.where for s in skipped_checkpoints(tree)] == ["step 1,280"]


@pytest.mark.parametrize("skipped", [11, 5])
def test_what_was_measured_before_the_end_is_not_called_final(skipped):
    page = render_page(make_tree(skipped={skipped: "damaged"}), pictures("training"))
    cards = page[page.index('class="cards"') : page.index('class="note"')]
    words = ["<dt>at the end<", "<dt>final loss (nats)<", "<dt>final accuracy<"]
    instead = ["<dt>at step 960<", "<dt>loss (nats) there<", "<dt>accuracy there<"]
    for final, there in zip(words, instead, strict=True):
        assert (final in cards, there in cards) == (skipped != 11, skipped == 11)
    assert (">last</th>" in page) == (skipped == 11)


def test_cosines_have_errors_and_are_marked_where_chance_may_have_made_them():
    tree = synthetic(layers=2, checkpoints=3, subsets=3, probes=40, folds=8, skipped=(1,))
    table = between_subsets(tree)
    found = cosines(tree)
    assert found.labels == ["clean", "corrupted", "held_out"]
    assert found.tested
    at = {"subset": "clean", "subset_other": "corrupted"}
    for k in (0, 2):
        cell = found.rows(k)[0][1]
        assert cell.value == table["gradient_cosine"].sel(at).values[k]
        assert cell.error == table["gradient_cosine_stderr"].sel(at).values[k]
        assert cell.chance == (table["p_value_adjusted"].sel(at).values[k] > 0.05)
        assert [found.rows(k)[a][a].spread for a in range(3)] == [""] * 3
    assert found.rows(1)[0][1].text == DASH
    html = rendered(tree)
    assert "neither help nor oppose each other beyond chance" in html


def test_cosines_without_sums_have_no_errors_and_no_marks():
    html = rendered(make_tree())
    assert "neither help nor oppose" not in html
    assert not cosines(make_tree()).tested
    assert cosines(make_tree(subsets=("train",), held_out=())) is None


def test_numbers_in_print():
    assert [number(v) for v in (148.5612, 5.3, 1234.5, 0.001, 0.0, np.nan)] == [
        "148.56", "5.30", "1,234", "<0.01", "0.00", DASH,
    ]  # fmt: skip
    plain = [
        re.sub("<[^>]*>", "", in_words(Value(v, e, "", "")))
        for v, e in ((77.56, 11.28), (5.302, 0.627), (148.93, np.nan), (4.0, np.nan))
    ]
    assert plain == ["78 ± 11", "5.30 ± 0.63", "149", "4.00"]
    assert [loss(v) for v in (2.3333, 0.0, 3e-7, np.nan)] == ["2.333", "0.000", "3.0e-07", DASH]
    assert [cosine(v) for v in (0.1234, -0.5, np.nan)] == ["+0.12", "\N{MINUS SIGN}0.50", DASH]
    assert DASH in with_error(None)
    assert breakable("<b>") == "&lt;b&gt;"
    assert breakable("<b>." * 20).count(".<wbr>") == 20
