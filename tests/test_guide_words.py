"""The words in interactive charts, at guides and on what is shaded, lie where no line is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser import Reader, choose_layer
from tests.comparisons import make_comparison, write_comparison
from tests.test_charts import cancelling, write_report
from tests.trees import make_tree

WIDTHS = (1280, 400)
GUIDE = "meaning of a guide"
ENDS, LEFT, EVERYWHERE = "ends_at_1", "begins_at_1", "around_1"

# Words of a kind, with the lines that pass through them; and their place.
WORDS = """(kind) => {
  const chart = document.querySelector("#lines svg");
  const inside = ({ x, y }, box) => x > box.left && x < box.right && y > box.top && y < box.bottom;
  const paths = [...chart.querySelectorAll('[aria-label="line"] path')];
  const points = paths.flatMap((path) => {
    const matrix = path.getScreenCTM(), length = path.getTotalLength();
    return Array.from({ length: Math.ceil(length) + 1 }, (_, k) =>
      path.getPointAtLength(Math.min(k, length)).matrixTransform(matrix));
  });
  const all = [...chart.querySelectorAll("text")];
  const words = [...chart.querySelectorAll(`[aria-description="${kind}"] text`)];
  return words.map((text) => {
    const box = text.getBoundingClientRect();
    const over = all.filter((other) => other !== text && other.textContent).filter((other) => {
      const b = other.getBoundingClientRect();
      return b.left < box.right && box.left < b.right && b.top + 2 < box.bottom
        && box.top + 2 < b.bottom;
    });
    return { text: text.textContent, crossed: points.filter((point) => inside(point, box)).length,
             over: over.map((other) => other.textContent), lines: paths.length };
  });
}"""


def around(count: int, name: str) -> np.ndarray:
    """Values ``[checkpoint]`` that leave room for words at 1 on a side, or nowhere."""
    rising = np.geomspace(1.0, 60.0, count)
    return {LEFT: rising, ENDS: rising[::-1], EVERYWHERE: np.tile([0.5, 2.0], count)[:count]}[name]


def tree_of(names: list[str]):
    tree = make_tree(layers=names, steps=range(0, 400, 10), subsets=("a", "b"), held_out=())
    layers = tree["layers"].to_dataset()
    values = layers["m_coherence"].copy()
    for name in names:
        values.loc[{"layer": name}] = around(40, name)[:, None]
    tree["layers"] = tree["layers"].assign(m_coherence=values)
    return tree


@pytest.fixture(scope="module", params=WIDTHS)
def page(request, browser, tmp_path_factory):
    reader = Reader(browser)
    path = tmp_path_factory.mktemp("guides") / "report.html"
    yield reader.open(write_report(path, tree_of([ENDS, LEFT, EVERYWHERE])), request.param)
    reader.close()
    assert reader.faults == []


@pytest.mark.parametrize("layer", [ENDS, LEFT, EVERYWHERE])
def test_no_line_passes_through_the_words_at_a_guide(page, layer):
    choose_layer(page, layer)
    page.select_option("#size", label="each at its own m")
    found = page.evaluate(WORDS, GUIDE)
    above = "- - " if layer == EVERYWHERE else ""
    assert [one["text"] for one in found] == [f"{above}1: orthogonal"]
    assert found[0]["lines"] == 3
    assert found[0]["crossed"] == 0
    assert found[0]["over"] == []


def test_nor_does_the_rule_at_the_chosen_checkpoint_where_there_is_room(page):
    choose_layer(page, LEFT)
    page.select_option("#size", label="each at its own m")
    for checkpoint in ("39", "20", "36"):
        page.fill("#checkpoint", checkpoint)
        crossed = page.evaluate(
            """() => {
              const [a, b] = ["meaning of a guide", "chosen checkpoint"].map((name) =>
                document.querySelector(`#lines [aria-description="${name}"]`)
                  .getBoundingClientRect());
              return a.left < b.right && b.left < a.right;
            }"""
        )
        assert not crossed, checkpoint


def test_no_line_of_a_comparison_passes_through_them(reader, tmp_path):
    tree = make_comparison(steps=range(12))
    value = tree["network"].to_dataset()["m_coherence"]
    course = value.isel(run=0, subset=0, drop=True).copy(data=around(12, ENDS))
    tree["network"] = tree["network"].assign(m_coherence=0 * value + course)
    for width in WIDTHS:
        found = reader.open(write_comparison(tmp_path, tree), width).evaluate(WORDS, GUIDE)
        assert [one["text"] for one in found] == ["1: orthogonal"]
        assert [one["crossed"] for one in found] == [0]


@pytest.mark.parametrize("everywhere", [False, True])
def test_no_line_passes_through_the_words_on_what_is_shaded(reader, tmp_path, everywhere):
    steps = range(0, 400, 10)
    tree = make_tree(layers=["fc"], steps=steps, subsets=("a", "b"), held_out=())
    tree = cancelling(tree, tuple(steps[15:25]), 500.0)
    layers = tree["layers"].to_dataset()
    values = layers["m_coherence"].copy()
    ends = [0.2, 60.0] if everywhere else [60.0, 60.0]  # the bottom and the top of the chart
    values.loc[{"subset": "b"}] = np.tile(ends, 20)[:, None]
    tree["layers"] = tree["layers"].assign(m_coherence=values)
    path = write_report(tmp_path / "report.html", tree)
    for width in WIDTHS:
        page = reader.open(path, width)
        choose_layer(page, "fc")
        page.select_option("#subset", label="a")
        shade, chart = (
            page.locator(f"#lines {which}").first.bounding_box()
            for which in ("[aria-description='gradients cancel'] rect", "svg")
        )
        words = page.locator("#lines [aria-description='meaning of the shade']").bounding_box()
        (found,) = page.evaluate(WORDS, "meaning of the shade")
        assert found["text"] == "gradients cancel"
        assert found["lines"] == 3
        assert found["crossed"] == 0
        assert found["over"] == []
        middle = words["x"] + words["width"] / 2
        assert shade["x"] <= middle <= shade["x"] + shade["width"]
        above = words["y"] + words["height"] <= shade["y"] + 2
        assert above is everywhere or width < 1280  # where the shade is narrower than the words
        assert words["y"] + words["height"] / 2 > chart["y"]
