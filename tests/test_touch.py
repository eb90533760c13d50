"""Pages under a finger, on a screen of 400 pixels in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.comparisons import make_comparison, write_comparison
from tests.test_charts import write_report
from tests.trees import make_tree, with_chance

WIDTH = 400
REACH = 160  # pixels between a finger and the words that it asks for
LONG = [f"encoder.blocks.{k}.attention.projection" for k in range(12)]
CHARTS = {"report": ("lines", "heat", "profile"), "comparison": ("lines", "heat", "ratio", "loss")}

# What stands out of the window, and in no box that scrolls and says so by an edge that fades.
OUTSIDE = """(room) => {
  const cued = (element) => {
    for (let box = element.parentElement; box; box = box.parentElement) {
      const hides = getComputedStyle(box).overflowX !== "visible";
      if (hides && box.matches(".more-left, .more-right")) return true;
      if (hides && box.matches(".chart")) return false;
    }
    return false;
  };
  return [...document.querySelectorAll("body *")].filter((element) => {
    const { left, right, width, height } = element.getBoundingClientRect();
    const shown = width > 1 && height > 1 && element.checkVisibility();
    return shown && (left < -1 || right > room + 1) && !cued(element);
  }).map((element) => `${element.tagName} ${element.className?.baseVal ?? element.className} `
    + element.textContent.slice(0, 60));
}"""


@pytest.fixture(scope="module", params=CHARTS)
def phone(request, browser, tmp_path_factory) -> Iterator[tuple[str, Any]]:
    """Each page once, with what makes it wide: long names, many runs, skipped checkpoints."""
    folder = tmp_path_factory.mktemp("phone")
    if request.param == "report":
        tree = with_chance(make_tree(layers=LONG, skipped={3: "damaged"}))
        path = write_report(folder / "index.html", tree)
    else:
        runs = [f"a run with a long name, seed {k}" for k in range(5)]
        path = write_comparison(folder, make_comparison(runs=runs, layers=LONG))
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 800}, color_scheme="dark", has_touch=True,
        is_mobile=True,
    )  # fmt: skip
    page = context.new_page()
    page.goto(path.as_uri())
    yield request.param, page
    context.close()


def test_words_come_to_the_finger_and_stay_inside_of_the_window(phone):
    name, page = phone
    for chart in CHARTS[name]:
        page.locator(f"#{chart}").scroll_into_view_if_needed()
        for across in (0.45, 0.92):
            box = page.locator(f"#{chart} > svg").bounding_box()
            x, y = box["x"] + across * box["width"], box["y"] + 0.5 * box["height"]
            page.touchscreen.tap(x, y)
            page.wait_for_selector(f"#{chart} [aria-label=tip] text")
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
            )
            words = page.locator(f"#{chart} [aria-label=tip] path").first.bounding_box()
            left, right = words["x"], words["x"] + words["width"]
            assert left >= 0, (chart, across)
            assert right <= WIDTH, (chart, across)
            assert max(left - x, x - right) < REACH, (chart, across)
            top, bottom = words["y"], words["y"] + words["height"]
            assert max(top - y, y - bottom) < REACH, (chart, across)


def test_a_tap_chooses_the_checkpoint_that_the_readout_tells(phone):
    _, page = phone
    for across, end in ((0.97, "last"), (0.16, "first")):
        page.locator("#lines").scroll_into_view_if_needed()
        box = page.locator("#lines > svg").bounding_box()
        page.touchscreen.tap(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
        chosen = page.text_content("#checkpoint-name")
        expected = {"last": page.get_attribute("#checkpoint", "max"), "first": "0"}[end]
        assert page.input_value("#checkpoint") == expected
        assert chosen in page.text_content("#readout")


def test_nothing_leaves_the_window_without_a_cue(phone):
    _, page = phone
    assert page.evaluate(OUTSIDE, WIDTH) == []
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH


def test_no_label_and_no_number_of_a_card_is_broken(phone):
    _, page = phone
    broken = page.evaluate(
        """() => [...document.querySelectorAll(".card :is(dt, dd, .big)")].filter((element) => {
          const line = parseFloat(getComputedStyle(element).lineHeight);
          return element.getBoundingClientRect().height > 1.5 * line;
        }).map((element) => element.textContent)"""
    )
    assert page.locator(".card dd").count() > 5
    assert broken == []
