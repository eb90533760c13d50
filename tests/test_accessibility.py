"""Every page for whoever does not see it, does not use a mouse, or has a small screen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyze.comparison import compare
from analyze.comparison import page as comparison_page
from analyze.reports import page as report_page
from tests.comparisons import make_comparison
from tests.synthetic import synthetic
from tests.test_examples_page import with_inputs
from tests.test_rankings import COUNT, made
from tests.test_report import PROVENANCE
from tests.trees import make_tree, pictures, with_chance

WINDOWS = [
    pytest.param(1280, "light", id="wide, light", marks=pytest.mark.nightly),
    pytest.param(400, "dark", id="narrow, dark"),
    pytest.param(1280, "dark", id="wide, dark", marks=pytest.mark.nightly),
    pytest.param(400, "light", id="narrow, light", marks=pytest.mark.nightly),
]
LONG = [f"blocks.{k}.attention.projection" for k in range(16)]


def comparison_html(tree) -> str:
    return comparison_page.render_page(tree, pictures("training"))


def report_html(tree, *probes) -> str:
    return report_page.render_page(tree, pictures("training", "layers"), None, *probes)


def with_examples() -> str:
    """Of a run with directions, images and classes."""
    values = np.random.default_rng(4).integers(0, 256, (COUNT, 1, 8, 8)).astype(np.uint8)
    probes = with_inputs(values)
    return report_html(made(("all", "clean", "corrupted"), ("class",), probes), (probes, ""))


def random_network():
    """A network whose gradients never agree: all values lie in the band of chance."""
    tree = make_tree()
    for name in ("network", "layers"):
        tree[name]["m_coherence"] = 0 * tree[name]["m_coherence"] + 1.1
    return with_chance(tree)


def configurations():
    """Two configurations of two seeds each."""
    seeds = {f"{c} {seed}": synthetic(layers=3, checkpoints=4, seed=seed, strength=1.0 + (c == "b"))
             for c in "ab" for seed in range(2)}  # fmt: skip
    return compare(seeds, groups={c: [name for name in seeds if name[0] == c] for c in "ab"})


PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: report_html(
        with_chance(make_tree(layers=LONG, skipped={3: "damaged"}, provenance=PROVENANCE))
    ),
    "report with examples": with_examples,
    "random network": lambda: report_html(random_network()),
    "comparison": lambda: comparison_html(make_comparison(lacking={"first": "bn1"})),
    "groups": lambda: comparison_html(configurations()),
}  # fmt: skip


@pytest.fixture(scope="module", params=PAGES)
def opened(request, browser, tmp_path_factory) -> Iterator[Any]:
    """Each page once, with axe in it, which the page's policy would not let in."""
    path: Path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    page.evaluate("document.querySelectorAll('details').forEach((all) => { all.open = true; })")
    yield page
    context.close()


def seen(page: Any, width: int, scheme: str) -> Any:
    """The page as a reader with this window has it, drawn again."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return page


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_axe_has_no_serious_finding(opened, width, scheme):
    found = seen(opened, width, scheme).evaluate(
        "() => axe.run(document, { resultTypes: ['violations'] })"
    )
    assert found["passes"]
    told = [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"] if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]  # fmt: skip
    assert told == []


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_nothing_is_cut_off_without_a_sign(opened, width, scheme):
    page = seen(opened, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []


# What is wider than the box in which it is clipped, and the box does not say so: its edge fades
# and keys reach it, or it is a field of a form.
CUT_OFF = """[...document.querySelectorAll("body *")].filter((box) => {
  const style = getComputedStyle(box);
  const wider = box.scrollWidth > box.clientWidth + 1 && style.overflowX !== "visible";
  if (!wider || !box.clientWidth || box.matches("svg, svg *, .skip, select, input")) return false;
  const reached = box.tabIndex === 0 || box.querySelector("a");
  return !(reached && style.maskImage !== "none" && box.classList.contains("more-right"));
}).map((box) => box.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_what_is_pressed_is_24_pixels_large(opened, width, scheme):
    page = seen(opened, width, scheme)
    assert page.evaluate(SMALL) == []


SMALL = """[...document.querySelectorAll("button, select, input, summary, a")].filter((target) => {
  const { width, height } = target.getBoundingClientRect();
  return width && !target.matches(".skip") && (width < 24 || height < 24);
}).map((target) => target.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_words_in_charts_have_contrast(opened, width, scheme):
    page = seen(opened, width, scheme)
    assert page.evaluate(CONTRASTS) == []


# Words of charts whose colour is less than 4.5 times as light, or dark, as the page: axe does not
# look into them.
CONTRASTS = """() => {
  const light = (colour) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const context = canvas.getContext("2d");
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const parts = [...context.getImageData(0, 0, 1, 1).data].map((part) => linear(part / 255));
    const [red, green, blue] = parts;
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const all = [...document.querySelectorAll(".chart text, [id$=scale] text")];
  const texts = all.filter((text) => text.textContent.trim());
  if (texts.length < 20) throw new Error("charts without words");
  return texts.filter((text) => {
    const own = light(getComputedStyle(text).fill);
    return (Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05) < 4.5;
  }).map((text) => text.textContent);
}"""


def test_the_skip_link_comes_first_and_leads_past_the_contents(opened):
    page = seen(opened, 1280, "light")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.locator(".skip").bounding_box()
    assert box["width"] > 100
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_headings_are_in_order_and_the_contents_lead_to_them(opened):
    page = seen(opened, 400, "light")
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].filter((head) => head.offsetParent)"
        ".map((head) => Number(head.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    links = [link for link in page.locator(".contents a").all() if link.is_visible()]
    assert len(links) >= 5
    for link in links[::-1]:
        link.click()
        assert page.evaluate("document.activeElement.textContent") == link.text_content()
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 40
        assert "-title" not in page.url  # which holds what the reader has chosen


def test_tables_have_names_and_heads(opened):
    assert seen(opened, 1280, "light").evaluate(BARE_TABLES) == []


BARE_TABLES = """[...document.querySelectorAll("table")].filter((table) => {
  const named = table.caption?.textContent || table.ariaLabel
    || document.getElementById(table.getAttribute("aria-labelledby"))?.textContent;
  const heads = [...table.querySelectorAll("th")];
  return !named || !heads.length || heads.some((head) => !head.scope);
}).map((table) => table.outerHTML.slice(0, 200))"""


def test_a_charts_name_says_what_is_in_it(opened):
    page = seen(opened, 1280, "light")
    names = page.evaluate(
        "[...document.querySelectorAll('.chart')].filter((chart) => chart.offsetParent).map("
        "(chart) => chart.ariaLabel || chart.ariaLabelledByElements[0].textContent)"
    )
    assert len(names) >= 3
    assert all(len(name) > 10 for name in names)
    assert page.locator(".chart svg:not([aria-hidden])").count() == 0
