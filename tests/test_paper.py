"""Pages on paper: what the screen shows, whole, in light, without what does nothing there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import Reader, choose_layer
from tests.comparisons import make_comparison
from tests.paper import cut_off, opened, texts
from tests.test_accessibility import LONG, comparison_html, report_html, with_examples
from tests.test_report import PROVENANCE
from tests.trees import make_tree, with_chance

BY_HAND = (
    "Zoom", "Save as", "Skip to the content", "Arrow keys", "Drag over", "type to find", "Pin",
    "A name hides", "Contents", "Find",
)  # fmt: skip
SHEET = 688  # pixels of 182 mm, the width of A4 between its margins
SUBSETS = [f"class {k}" for k in range(11)]
LAYERS = [f"blocks.{k}.mlp" for k in range(44)]
SIZE = "el => Math.round(el.getBoundingClientRect().width)"


@dataclass
class Printed:
    """A page, and what came out of the printer."""

    page: Any
    pdf: bytes

    def __post_init__(self) -> None:
        self.sheets = texts(self.pdf)
        self.words = " ".join(self.sheets)

    def sheet_of(self, words: str) -> str:
        """The only sheet with these words."""
        [found] = [sheet for sheet in self.sheets if words in sheet]
        return found


def pages() -> dict[str, str]:
    tree = with_chance(make_tree(layers=LAYERS, skipped={3: "damaged"}, provenance=PROVENANCE))
    return {
        "report": report_html(tree),
        "examples": with_examples(),
        "comparison": comparison_html(make_comparison(layers=LONG)),
        "subsets": report_html(with_chance(make_tree(subsets=SUBSETS, steps=(0, 4, 16)))),
    }


@pytest.fixture(scope="module")
def printed(browser, tmp_path_factory) -> Iterator[dict[str, Printed]]:
    """Each kind of page once, printed from a dark and wide screen, without backgrounds."""
    pytest.importorskip("pypdfium2")
    reader, folder, found = Reader(browser), tmp_path_factory.mktemp("paper"), {}
    for name, html in pages().items():
        path: Path = folder / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        page = reader.open(path, color_scheme="dark")
        if name == "report":
            choose_layer(page, LAYERS[3])
            page.select_option("#subset", label="corrupted")
            page.locator(".behind summary").first.click()
        if name == "comparison":
            page.fill("#layer-table-filter", "blocks.1")
        found[name] = Printed(page, page.pdf(format="A4"))
    yield found
    assert reader.faults == []
    reader.close()


def test_nothing_is_cut_off(printed):
    for name, one in printed.items():
        assert cut_off(one.pdf) == [], name
        one.page.emulate_media(media="print")
        one.page.set_viewport_size({"width": SHEET, "height": 900})
        wide = one.page.evaluate(
            """(sheet) => [...document.querySelectorAll("main *:not(svg *)")]
                 .filter((one) => one.getBoundingClientRect().right > sheet + 1)
                 .map((one) => one.outerHTML.slice(0, 80))""",
            SHEET,
        )
        assert wide == [], name
        one.page.emulate_media(media="screen")
        one.page.set_viewport_size({"width": 1280, "height": 900})


def test_what_does_nothing_on_paper_is_not_there(printed):
    for name, one in printed.items():
        assert [words for words in BY_HAND if words in one.words] == [], name
        one.page.emulate_media(media="print")
        seen = one.page.evaluate(
            """() => [...document.querySelectorAll("button, input, .tools, .files, footer")]
                 .filter((one) => one.checkVisibility())
                 .filter((one) => !one.matches("th *, .legend *, [role=combobox]"))
                 .map((one) => one.outerHTML)"""
        )
        assert seen == [], name
        one.page.emulate_media(media="screen")


def test_the_views_in_detail_are_printed_as_they_stand(printed):
    report = printed["report"]
    sheet = report.sheet_of(f"M-coherence of {LAYERS[3]} over training, at m = 500")
    assert "The chosen subset with its 95 % interval" in sheet
    assert f"Layer {LAYERS[3]}" in report.words
    assert "Subset corrupted" in report.words
    assert f"{LAYERS[3]} · corrupted · step" in report.words
    assert "Every layer and checkpoint: corrupted" in report.words
    assert "Grey: no gradient, or not measured." in printed["examples"].words
    assert "Sort by suspicion" in printed["examples"].words
    assert "Bands are 95 % intervals" in printed["comparison"].words


def test_titles_are_kept_with_their_figures(printed):
    report = printed["report"]
    for figure in report.page.locator("main > section:not(.scripted) figure").all():
        title, caption = figure.locator("figcaption").all()[0], figure.locator("figcaption").last
        words = [" ".join(part.text_content().split())[:40] for part in (title, caption)]
        assert words[1] in report.sheet_of(words[0])
    for heading in report.page.locator("h2").all():
        sheet = report.sheet_of(words := heading.text_content())
        assert not sheet.endswith(words)


def test_numbers_of_a_figure_are_printed_where_the_reader_has_opened_them(printed):
    assert printed["report"].words.count("The numbers of this figure") == 1
    assert "The numbers of this figure" not in printed["comparison"].words


def test_how_the_numbers_were_made_is_printed(printed):
    assert "7.0e-15 (fc.weight), of 2 parameters" in printed["report"].words


def test_a_table_of_which_the_reader_sees_a_part_says_so(printed):
    number = sum("blocks.1" in name for name in LONG)
    assert f"{number} of {len(LONG) + 1} rows" in printed["comparison"].words
    assert " rows" not in printed["report"].words


def test_the_head_of_a_table_stands_on_each_of_its_sheets(printed):
    rows = [sheet for sheet in printed["report"].sheets if "Layer Type Parameters" in sheet]
    assert len(rows) > 1
    assert all("peak at end" in sheet for sheet in rows)
    assert all(" ".join(rows).count(f"{name} Conv2d") == 1 for name in LAYERS)


def test_tables_that_are_too_wide_are_printed_in_parts_with_all_their_columns(printed):
    one = printed["subsets"]
    words = one.words[one.words.rindex("Table of layers, at m") :]
    names = re.findall(r"class \d+|\ball\b", words[: words.index("Provenance")])
    assert names == [*SUBSETS, "all"]
    assert words.count("peak at end") == len(names)  # once each, in whole groups
    assert words.count("conv1") == words.count("Layer ") > 1
    assert words.count("Parameters") == 1
    assert one.page.locator(".part-on-paper, .in-parts").count() == 0  # on the screen again
    for name in ("report", "examples", "comparison"):
        one = printed[name].page
        one.emulate_media(media="print")
        assert one.locator(".part-on-paper").count() == 0, name
        one.emulate_media(media="screen")


def test_paper_is_white_and_cells_have_their_colours(printed):
    for name, one in printed.items():
        with opened(one.pdf) as document:
            for sheet in document:
                pixels = np.asarray(sheet.render(scale=0.5).to_pil().convert("RGB")).astype(int)
                assert (pixels[:20] == 255).all(), name  # the margin
    report = printed["report"]
    with opened(report.pdf) as document:
        place = report.sheets.index(report.sheet_of("Every layer and checkpoint"))
        pixels = np.asarray(document[place].render(scale=1).to_pil().convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 60).mean() > 0.02


def test_charts_are_drawn_for_the_sheet_and_for_the_screen_again(printed):
    for name in ("report", "comparison"):
        page = printed[name].page
        chart, before = page.locator("#lines > svg"), page.locator("#lines > svg").evaluate(SIZE)
        assert before > SHEET
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert abs(chart.evaluate(SIZE) - SHEET) < 2
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert chart.evaluate(SIZE) == before
