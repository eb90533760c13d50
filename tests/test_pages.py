"""The pages in a browser: what is drawn follows the reader's choices, and nothing is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from analyze.reports import page as report_page
from analyze.reports.cosines import cosines
from tests.browser import Reader, choose_layer
from tests.charts import changed, drawn, point_at, printed
from tests.comparisons import make_comparison, write_comparison
from tests.synthetic import synthetic
from tests.trees import STEPS, make_tree, pictures, with_chance

pytestmark = pytest.mark.usefixtures("pages_only")

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
LAYERS = ("conv1", "bn1", "fc")
MINUS = "\N{MINUS SIGN}"


def write_report(folder: Path, tree) -> Path:
    """The page alone, with empty figures."""
    path = folder / "report.html"
    html = report_page.render_page(tree, pictures("training", "layers"))
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tree():
    return with_chance(make_tree(layers=LAYERS, skipped={3: "damaged"}))


@pytest.fixture(scope="module")
def report(tmp_path_factory, tree) -> Path:
    return write_report(tmp_path_factory.mktemp("report"), tree)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    tree = make_comparison(runs=("one", "two", "three"), lacking={"one": "bn1"})
    return write_comparison(tmp_path_factory.mktemp("comparison"), tree)


# --- the report


def test_the_choices_of_the_report_redraw_its_views(reader, report):
    page = reader.open(report)
    charts = ("lines", "heat", "profile")
    for choose in (
        lambda: choose_layer(page, "conv1"), lambda: page.select_option("#subset", index=1)
    ):  # fmt: skip
        before = {name: drawn(page, name) for name in charts}
        words = page.text_content("#readout")
        choose()
        assert changed(page, before) == set(charts)
        assert page.text_content("#readout") != words
    assert "conv1" in page.text_content("#lines-title")
    before = {name: drawn(page, name) for name in charts}
    page.fill("#checkpoint", "0")
    assert changed(page, before) == set(charts)
    assert "step 0" in page.text_content("#profile-title")


def test_the_views_have_the_values_of_the_results(reader, report, tree):
    page = reader.open(report)
    value = tree["layers"]["m_coherence"].sel(layer="bn1", subset="clean").values
    choose_layer(page, "bn1")
    page.select_option("#subset", label="clean")
    page.fill("#checkpoint", "7")
    words = page.text_content("#readout")
    assert words.startswith(
        f"bn1 · clean · step {STEPS[7]} · m-coherence {printed(value[7])} (95 %"
    )
    words = point_at(page, "heat", 1, 9, len(LAYERS), len(STEPS))
    assert f"step {STEPS[9]}" in words
    assert f"m-coherence {printed(value[9])}" in words
    page.fill("#checkpoint", "3")
    assert page.text_content("#readout").endswith("no value: skipped")


def test_the_cosines_between_subsets_are_those_of_the_chosen_checkpoint(reader, tmp_path):
    tree = synthetic(layers=2, checkpoints=4, subsets=3, probes=30, folds=6, strength=3.0)
    page, found = reader.open(write_report(tmp_path, tree)), cosines(tree)
    assert found.tested
    for k in range(4):
        page.fill("#checkpoint", str(k))
        expected = [
            [f"{cell.text}{cell.spread}{'n' if cell.chance else ''}" for cell in row]
            for row in found.rows(k)
        ]
        shown = page.evaluate(
            "() => [...document.querySelectorAll('#cosines tbody tr')]"
            ".map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))"
        )
        assert shown == expected
        assert page.text_content("#cosines-place") == page.text_content("#checkpoint-name")


def test_a_line_breaks_where_a_checkpoint_was_skipped(reader, report):
    page = reader.open(report)
    path = page.get_attribute("#lines [aria-description=all] path", "d")
    assert path.count("M") == 2
    assert page.locator("#lines [aria-description='skipped checkpoint'] text").count() == 1
    assert page.locator("#lines [aria-description='what comes by chance'] path").count() == 1
    assert page.locator("#lines").get_by_text("1: orthogonal").count() == 1


def test_everything_in_the_report_can_be_done_by_keyboard(reader, report):
    page = reader.open(report)
    page.focus("#layer")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert "conv1" in page.text_content("#lines-title")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.text_content("#pinned-layers").startswith("conv1")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert "held_out" in page.text_content("#heat-title")
    for _ in ("size", "checkpoint"):
        page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert page.get_attribute("#checkpoint", "aria-valuetext") == "step 0"
    passed = []
    while len(passed) < 12 and passed[-1:] != ["heat"]:
        page.keyboard.press("Tab")
        passed.append(page.evaluate("document.activeElement.id"))
    assert passed[:4] == ["pin-checkpoint", "along-scale", "coherence-scale", "zoom-closer"]
    assert passed[4:] == ["", "", "", "heat"]  # buttons that save the lines, then the map
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#readout").startswith("bn1 · held_out · step 4")
    assert page.is_visible("#heat .chosen")
    page.focus("#layers th[data-column='0'] button")
    page.keyboard.press("Enter")
    names = page.locator("#layers tbody th").all_text_contents()
    assert names == sorted(LAYERS)
    page.focus("#layers tbody button")
    page.keyboard.press("Enter")
    assert "bn1" in page.text_content("#lines-title")


def test_every_control_has_a_name(reader, report, comparison):
    for path in (report, comparison):
        page = reader.open(path)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('select, input')].filter(e => !e.labels.length)"
            ".concat([...document.querySelectorAll('button')].filter(e => !e.textContent.trim()))"
            ".map(e => e.outerHTML)"
        )
        assert unnamed == []


def test_the_table_sorts_by_value_and_filters(reader, report, tree):
    page = reader.open(report)
    rows = page.locator("#layers tbody tr")
    peaks = tree["layers"]["m_coherence"].sel(subset="clean").max("checkpoint")
    page.click("#layers thead th[data-column='3'] button")
    down = [LAYERS[k] for k in np.argsort(-peaks.values)]
    assert page.locator("#layers tbody th").all_text_contents() == down
    head = page.locator("#layers thead th[data-column='3']")
    assert head.get_attribute("aria-sort") == "descending"
    page.click("#layers thead th[data-column='3'] button")
    assert page.locator("#layers tbody th").all_text_contents() == down[::-1]
    page.fill("#layers-filter", "CONV1 conv2d")
    assert [row.is_visible() for row in rows.all()].count(True) == 1
    assert page.text_content("#layers-count") == "1 of 3 rows"


# --- all pages


@pytest.fixture(scope="module", params=["few", "many"])
def full(request, tmp_path_factory) -> list[Path]:
    """A report and a comparison with few and with many of everything."""
    many, folder = request.param == "many", tmp_path_factory.mktemp(request.param)
    names = [f"model.layers.{k}.self_attn.q_proj" for k in range(120 if many else 3)]
    steps = range(0, 30000, 600) if many else STEPS
    subsets = [f"class {k}" for k in range(11)] if many else ["clean", "held_out"]
    tree = with_chance(make_tree(layers=names, steps=steps, subsets=subsets, held_out=subsets[1:2]))
    several = make_comparison(
        runs=[f"seed {k}" for k in range(20 if many else 2)], layers=names, steps=steps,
        subsets=["clean", "all"],
    )  # fmt: skip
    return [write_report(folder, tree), write_comparison(folder, several)]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overlaps_or_leaves_the_page(reader, full, width):
    for path in full:
        page = reader.open(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(SMALL) == []
        ticks = page.locator('.chart [aria-label$="tick label"] text').all_text_contents()
        assert len(ticks) > 10
        assert "" not in ticks


# Tick labels of one axis that touch each other.
OVERLAPS = """() => {
  const axes = [...document.querySelectorAll('.chart [aria-label$="tick label"]')];
  const touch = (a, b) => a.left < b.right && b.left < a.right
    && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
  return axes.flatMap((axis) => {
    const texts = [...axis.querySelectorAll("text")];
    const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], k) => boxes.slice(k + 1)
      .filter(([, b]) => touch(a, b)).map(([other]) => `${one} and ${other}`));
  });
}"""
# Charts and their words that stand out of the window.
OUTSIDE = """[...document.querySelectorAll(".chart svg, .chart svg text")].filter((element) => {
  const { left, right } = element.getBoundingClientRect();
  return left < 0 || right > innerWidth;
}).map((element) => element.textContent)"""

# Words of charts below nine pixels: a chart that is shrunk to fit is not readable.
SMALL = """() => [...document.querySelectorAll(".chart svg")].flatMap((chart) => {
  const shrunk = chart.getBoundingClientRect().width / chart.viewBox.baseVal.width;
  const size = (text) => parseFloat(getComputedStyle(text).fontSize) * shrunk;
  const texts = [...chart.querySelectorAll("text")].filter((text) => text.textContent);
  return texts.filter((text) => size(text) < 9).map((text) => text.textContent);
})"""


def test_names_from_files_stay_text(reader, tmp_path):
    tree = make_tree(
        steps=(0, 1, 2), subsets=(EVIL, "b"), held_out=(), layers=(EVIL, "a&b"), skipped={1: EVIL},
        provenance={"run": {"name": EVIL}},
    )  # fmt: skip
    page = reader.open(write_report(tmp_path, tree))
    choose_layer(page, EVIL[:9])
    assert page.text_content("#lines-title") == f"M-coherence of {EVIL} over training, at m = 500"
    assert page.locator("img").count() == 0
    both = make_comparison(runs=(EVIL, "b"), layers=(EVIL, "fc"), subsets=(EVIL, "all"),
                           settings={EVIL: [EVIL, "-"]}, lacking={"b": EVIL})  # fmt: skip
    page = reader.open(write_comparison(tmp_path, both))
    choose_layer(page, EVIL[:9])
    assert EVIL in page.text_content("#lines-title")
    assert EVIL in page.text_content("#legend")
    assert page.locator("img").count() == 0


def test_the_policy_forbids_what_the_page_does_not_need(browser, report):
    reader = Reader(browser)
    page = reader.open(report)
    answered = []
    page.on("response", lambda response: answered.append(response.url))
    refused = page.evaluate(
        """async () => {
          const refused = [];
          document.addEventListener("securitypolicyviolation", (event) => {
            refused.push(event.effectiveDirective);
          });
          const image = Object.assign(new Image(), { src: "https://example.org/x.png" });
          const failed = new Promise((done) => image.addEventListener("error", done));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(image, script);
          await failed;
          await fetch("https://example.org").catch(() => null);
          await new Promise((done) => setTimeout(done));
          return refused;
        }"""
    )
    assert sorted(refused) == ["connect-src", "img-src", "script-src-elem"]
    assert page.evaluate("window.ran") is None
    assert answered == []
    reader.close()


def test_light_and_dark_follow_the_system_until_chosen(reader, report):
    colour = "getComputedStyle(document.body).backgroundColor"
    assert reader.open(report).evaluate(colour) == "rgb(255, 255, 255)"
    page = reader.open(report, color_scheme="dark")
    dark = page.evaluate(colour)
    assert dark != "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.click("#theme")
    assert page.evaluate(colour) == dark
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    assert page.evaluate("localStorage.getItem('analyze-theme')") == "dark"
    # What was kept reaches another load when the browser gets to it: here it is there before.
    page.add_init_script("localStorage.setItem('analyze-theme', 'dark')")
    page.reload()
    assert page.evaluate(colour) == dark
    page.emulate_media(media="print")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"


def test_without_scripts_the_still_figures_stand(reader, report, comparison):
    for path in (report, comparison):
        page = reader.open(path, java_script_enabled=False)
        for media in ("screen", "print"):
            page.emulate_media(media=media)
            assert page.locator("main .still > svg").first.is_visible()
            assert not [part for part in page.locator(".scripted").all() if part.is_visible()]


def test_a_page_of_many_layers_and_checkpoints_is_below_five_megabytes(reader, tmp_path):
    tree = with_chance(
        make_tree(layers=[f"blocks.{k}.mlp" for k in range(200)], steps=range(100)),
    )
    path = write_report(tmp_path, tree)
    assert path.stat().st_size < 5e6
    page = reader.open(path)
    assert page.locator("#heat image").count() == 1


def test_one_checkpoint_and_steps_unknown(reader, tmp_path):
    for steps in ((np.nan,), (np.nan,) * 3, (7,)):
        tree = make_tree(steps=steps, folds=1)
        page = reader.open(write_report(tmp_path, tree))
        assert page.locator("#profile [aria-description=layer] path").count() == len(LAYERS)
        assert not re.search(r"NaN|undefined|Infinity", page.inner_text("main"))
        count = f"{len(steps)} checkpoint{'s' if len(steps) > 1 else ''}"
        assert page.text_content("#zoom-words") == count
    tree = make_tree(steps=(0, 1), skipped={0: "damaged", 1: "damaged"})
    assert "no value" in reader.open(write_report(tmp_path, tree)).text_content("#readout")
