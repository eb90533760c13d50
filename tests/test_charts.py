"""The report's charts in a browser: the address has what is chosen, and every chart is a file."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from analyze.reports.page import render_page
from analyze.results.rows import FORMULA
from tests.browser import Reader
from tests.trees import STEPS, make_tree, pictures, with_chance

SVG = "{http://www.w3.org/2000/svg}"
LAYERS = ("conv1", "bn1", "fc", *(f"{sign}SUM(A1)" for sign in FORMULA))


def write_report(path: Path, tree) -> Path:
    """The page alone, with empty figures."""
    path.write_text(render_page(tree, pictures("training", "layers")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tree():
    return with_chance(make_tree(layers=LAYERS, skipped={3: "damaged"}))


@pytest.fixture(scope="module")
def report(tmp_path_factory, tree) -> Path:
    return write_report(tmp_path_factory.mktemp("charts") / "report.html", tree)


@pytest.fixture(scope="module")
def page(browser, report):
    """One page that tests look at one after the other; it has no fault at the end."""
    reader = Reader(browser)
    yield reader.open(report)
    reader.close()
    assert reader.faults == []


def go(page, address: str) -> None:
    """Give the page an address, as a link to it does; an address without choices is its start."""
    page.evaluate("(hash) => { location.hash = hash; }", address or "=")
    page.wait_for_function(
        "() => document.getElementById('lines').children.length === 1", timeout=5000
    )


def save(page, chart: str, kind: str) -> tuple[str, bytes]:
    """Press a chart's button for a kind of file; name and content of what is saved."""
    with page.expect_download() as found:
        page.locator(f"figure:has(#{chart}) .files").get_by_text(kind, exact=True).click()
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


# --- the address


def test_a_link_shows_what_was_chosen(reader, report):
    page = reader.open(report)
    assert "#" not in page.url
    page.select_option("#layer", label="=SUM(A1)")
    page.select_option("#subset", label="held_out")
    page.fill("#checkpoint", "5")
    page.wait_for_url(re.compile(r"#.*checkpoint=step\+64"))
    other = reader.open(report)
    other.goto(page.url)
    other.reload()
    for name in ("readout", "lines-title", "heat-title", "profile-title"):
        assert other.text_content(f"#{name}") == page.text_content(f"#{name}")
    assert other.text_content("#readout").startswith("=SUM(A1) · held_out · step 64")
    assert other.locator("#address-notice").count() == 0


def test_the_page_follows_its_address(page):
    start = page.text_content("#readout")
    go(page, "layer=fc&subset=clean&checkpoint=step+256")
    assert page.text_content("#readout").startswith("fc · clean · step 256")
    go(page, "layer=bn1")
    words = start.split(" · ")[1:3]
    assert page.text_content("#readout").startswith(" · ".join(["bn1", *words]))
    go(page, "")
    assert page.text_content("#readout") == start


def test_what_the_address_asks_for_in_vain_is_told(page):
    go(page, "layer=conv9&subset=clean&colour=red")
    notice = page.text_content("#address-notice")
    assert "layer “conv9”" in notice
    assert "“colour”" in notice
    assert "clean" not in notice
    assert page.text_content("#readout").startswith("whole network · clean")
    go(page, "layer=fc")
    assert page.locator("#address-notice").count() == 0


def test_a_place_on_the_page_keeps_what_is_chosen(page):
    go(page, "layer=fc&subset=clean")
    page.evaluate("location.hash = 'details-title'")
    page.wait_for_url(re.compile("layer=fc&subset=clean"))
    assert page.text_content("#readout").startswith("fc · clean")
    assert page.locator("#address-notice").count() == 0


# --- files


def test_every_chart_is_saved_with_the_numbers_of_the_results(page, tree):
    go(page, "layer=bn1&subset=clean&checkpoint=step+64")
    layers = tree["layers"].to_dataset()[["m_coherence"]]
    one = layers.sel(layer="bn1").transpose("subset", "checkpoint")
    at = layers.isel(checkpoint=STEPS.index(64)).sel(subset="clean")
    for chart, expected in (
        ("lines", one), ("heat", layers.sel(subset="clean").transpose("layer", "checkpoint")),
        ("profile", at),
    ):  # fmt: skip
        name, content = save(page, chart, "CSV")
        assert re.fullmatch(r"[\w.-]+\.csv", name)
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        value = expected["m_coherence"].values.ravel()
        saved = [float(row["m_coherence (examples)"] or "nan") for row in rows]
        np.testing.assert_allclose(saved, value, rtol=1e-6)
        low = [float(row["m_coherence_lower (95 %)"] or "nan") for row in rows]
        assert np.isnan(low).tolist() == np.isnan(value).tolist()
        assert (np.array(low)[~np.isnan(value)] < value[~np.isnan(value)]).all()
    steps = [float(row["optimizer step"]) for row in rows]
    assert steps == [64.0] * len(LAYERS)
    formulas = [row["layer"] for row in rows if "SUM" in row["layer"]]
    assert formulas == [f"'{sign}SUM(A1)" for sign in FORMULA]


def test_a_saved_drawing_needs_nothing_of_the_page(page):
    go(page, "layer=bn1&subset=clean&checkpoint=step+64")
    words = {
        "lines": ["M-coherence of bn1 over training", "held_out", "optimizer step"],
        "heat": ["Every layer and checkpoint: clean", "bn1", "m-coherence (examples)"],
        "profile": ["The layers at step 64: clean", "bn1"],
    }
    for chart, expected in words.items():
        before = page.inner_html(f"#{chart}")
        name, content = save(page, chart, "SVG")
        assert name.endswith(".svg")
        text = content.decode()
        assert "var(" not in text.replace("var(--plot-background)", "")
        assert not re.search(r"href=\"(?!data:|#)", text)
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        shown = {"".join(t.itertext()) for t in root.iter(f"{SVG}text")}
        assert set(expected) <= shown
        assert len(list(root.iter(f"{SVG}svg"))) > 1
        assert page.inner_html(f"#{chart}") == before


def test_a_picture_has_twice_the_pixels_and_the_colours_of_the_page(page):
    go(page, "")
    for chart in ("lines", "heat", "profile"):
        _, content = save(page, chart, "PNG")
        image = Image.open(io.BytesIO(content)).convert("RGB")
        chart_width = page.evaluate(f"document.querySelector('#{chart} svg').width.baseVal.value")
        assert image.width == 2 * (chart_width + 32)
        assert image.getpixel((2, 2)) == (255, 255, 255)
        assert len(image.getcolors(1 << 20)) > 20
