"""A figure's PDF shows what its PNG and SVG show: as large, the same words, the same marks."""

from __future__ import annotations

import io
import re
from contextlib import nullcontext
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import analyze
from analyze.figures.entry import FigureEntry
from analyze.figures.style import style
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN
from analyze.pages import figures as page_figures
from analyze.pages.figures import DPI, rendered
from tests.paper import opened
from tests.synthetic import synthetic
from tests.test_figure_table import SIZES

LOW = 100  # dots per inch at which both are compared
# Mean colours of squares with so many dots a side differ by less, of 255: words and hatches are
# drawn by other means, lines may be a dot apart. Without a hatch large squares differ by 23.
APART = {10: 30, 40: 15}
BY_DAY = [OF_A_RUN[0].name, "layers"]  # lines; and cells with hatches


@cache
def run() -> xr.DataTree:
    return synthetic(**SIZES, skipped=(2,))


@cache
def comparison() -> xr.DataTree:
    runs = {f"seed {k}": synthetic(seed=k, **SIZES) for k in range(4)}
    return analyze.compare(runs, groups={"both": ["seed 0", "seed 1"]})


ENTRIES = [
    pytest.param(
        entry, tree, id=f"{tree.__name__}-{entry.name}",
        marks=[] if tree is run and entry.name in BY_DAY else pytest.mark.nightly,
    )
    for table, tree in ((OF_A_RUN, run), (OF_A_COMPARISON, comparison)) for entry in table
]  # fmt: skip


def letters(text: str) -> list[str]:
    """The letters of a text, whatever the order in which a file has its words."""
    return sorted(re.sub(r"\s", "", text))


def squares(picture: Image.Image, side: int) -> np.ndarray:
    """Mean colours of small squares."""
    dots = np.asarray(picture.convert("RGB"), dtype=float)
    high, wide = (length // side for length in dots.shape[:2])
    return dots[: high * side, : wide * side].reshape(high, side, wide, side, 3).mean(axis=(1, 3))


def first_figure(entry: FigureEntry, tree: xr.DataTree) -> dict[str, bytes]:
    choice = next(iter(entry.choices(tree, None if tree is run() else []).values()))
    return rendered(entry.draw(tree, choice))


@pytest.mark.parametrize(("entry", "tree"), ENTRIES)
def test_the_pdf_of_a_figure_shows_what_its_png_shows(entry, tree, monkeypatch):
    # A letter that the font lacks is a warning here: own words have none, names of files may.
    monkeypatch.setattr(page_figures, "missing_glyphs_allowed", nullcontext)
    raw = pytest.importorskip("pypdfium2.raw")
    files = first_figure(entry, tree())
    png = Image.open(io.BytesIO(files["png"]))
    svg = ElementTree.fromstring(files["svg"])
    with opened(files["pdf"]) as document:
        assert len(document) == 1
        page = document[0]
        size = np.array(page.get_size()) / 72
        text = page.get_textpage().get_text_range()
        fonts = [
            raw.FPDFFont_GetIsEmbedded(raw.FPDFTextObj_GetFont(one.raw))
            for one in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT])
        ]
        picture = page.render(scale=LOW / 72).to_pil()
    np.testing.assert_allclose(size, np.array(png.size) / DPI, atol=1 / DPI)
    words = ["".join(one.itertext()) for one in svg.iter() if one.tag.endswith("}text")]
    assert words
    assert letters(text) == letters("".join(words))
    assert fonts
    assert set(fonts) == {1}
    other = png.resize(picture.size, Image.Resampling.LANCZOS)
    for side, most in APART.items():
        assert abs(squares(picture, side) - squares(other, side)).max() < most


def test_a_character_that_the_font_lacks_is_taken_from_another_and_is_text_for_the_reader():
    figure = Figure((3, 1))
    with style():
        figure.text(0.1, 0.5, "\u05e9 \u5c64")  # no letters of the first font
        families = figure.texts[0].get_fontfamily()
        assert families[0] == "sans-serif"
        assert "DejaVu Sans" in families  # which comes with matplotlib, and has the first of them
    drawn = rendered(figure)  # without a warning, whether any font here has the second
    assert "\u05e9 \u5c64" in "".join(ElementTree.fromstring(drawn["svg"]).itertext())
