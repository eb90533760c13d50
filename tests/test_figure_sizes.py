"""Figures of few and of many: nothing overlaps, nothing is cut off, no panel is empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import analyze
from analyze.figures.style import SMALLEST, WIDTHS, figure_width, inches, of_width, style
from analyze.figures.table import comparison_figures, run_figures
from tests.synthetic import synthetic

SLACK = 1.0  # pixels that boxes of neighbouring texts may share
APART = 4.0  # pixels that numbers on one line are apart at least


KINDS = ("few", "many layers", "many checkpoints", "many subsets", "deep, ten classes", "runs")
EVERY_TIME = {("few", "column"), ("runs", "column"), ("many checkpoints", "page"),
              ("many subsets", "page")}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            two, marks=[] if two in EVERY_TIME else [pytest.mark.nightly], id="-".join(two)
        )
        for two in product(KINDS, WIDTHS)
    ],
)
def figures(request) -> dict[str, Figure]:
    """Every figure of the table for a corner, at a width of print."""
    kind, width = request.param
    with of_width(width):
        if kind == "runs":
            return comparison_figures(runs())
        return run_figures(corner(kind))


def runs() -> xr.DataTree:
    sizes = {"layers": 4, "checkpoints": 4, "subsets": 2, "probes": 60, "folds": 3}
    several = {f"seed {k}": synthetic(seed=k, strength=1.0 + k, **sizes) for k in range(3)}
    return analyze.compare(several, groups={"both": ["seed 0", "seed 1"]})


def corner(name: str) -> xr.DataTree:
    sizes = {
        "few": {"layers": 10, "checkpoints": 3, "subsets": 2},
        "many layers": {"layers": 200, "checkpoints": 3, "subsets": 2},
        "many checkpoints": {"layers": 10, "checkpoints": 300, "subsets": 3, "skipped": (100, 150)},
        "many subsets": {"layers": 10, "checkpoints": 12, "subsets": 12},
        "deep, ten classes": {
            "layers": 107,
            "checkpoints": 12,
            "subsets": [f"class {k}" for k in range(10)],
        },
    }
    return synthetic(**sizes[name], folds=3, probes=30, strength=2.0)


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    with style():
        canvas.draw()
        renderer = canvas.get_renderer()
        return [(text.get_text(), text.get_window_extent(renderer)) for text in drawn_texts(figure)]


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts of a figure that has been drawn, without what matplotlib leaves out."""
    hidden = {id(label) for ax in figure.axes for label in not_drawn(ax)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]


def not_drawn(ax: Axes) -> Iterator[Text]:
    """Labels of ticks beyond the limits of their axis, which matplotlib keeps and leaves out."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        room = 1e-9 * (high - low)
        for tick in (*axis.majorTicks, *axis.minorTicks):
            yield tick.label2
            if not low - room <= tick.get_loc() <= high + room:
                yield tick.label1


def overlapping(found: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """The pairs of texts whose boxes share more than ``SLACK`` in both directions."""
    x0, y0, x1, y1 = np.array([box.extents for _, box in found]).T
    width = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)  # [T, T]
    height = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    pairs = np.argwhere(np.triu((width > SLACK) & (height > SLACK), k=1))
    return [(found[one][0], found[other][0]) for one, other in pairs]


def touching(found: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """The pairs of numbers on one line that are read as one number."""
    numbers = [(text, box) for text, box in found if re.fullmatch(r"[\d.,]+[kM]?", text)]
    return [
        (one, other)
        for (one, left), (other, right) in permutations(numbers, 2)
        if 0 <= right.x0 - left.x1 + SLACK < APART and abs(left.y0 - right.y0) < SLACK
    ]


def test_no_text_overlaps_another_and_none_is_cut_off(figures):
    for name, figure in figures.items():
        found = boxes(figure)
        width, height = figure.bbox.width, figure.bbox.height
        for text, box in found:
            assert min(box.x0, box.y0) >= -SLACK, (name, text, box)
            assert box.x1 <= width + SLACK, (name, text, box)
            assert box.y1 <= height + SLACK, (name, text, box)
        assert overlapping(found) == [], name
        assert touching(found) == [], name


def test_text_is_large_enough_at_the_width_of_print(figures, request):
    width = inches(request.node.callspec.params["figures"][1])
    for name, figure in figures.items():
        assert figure.get_figwidth() == width, name
        sizes = {text.get_text(): text.get_fontsize() for text in drawn_texts(figure)}
        assert min(sizes.values()) >= SMALLEST, (name, min(sizes, key=sizes.get))


def test_a_width_is_a_name_or_inches():
    assert [inches(width) for width in ("column", "page", "4.5", 5)] == [3.3, 6.9, 4.5, 5.0]
    with of_width("column"):
        assert figure_width() == 3.3
    assert figure_width() == 6.9
    for width in ("wide", "2", 40, float("nan"), None):
        with pytest.raises(analyze.InputError, match="cannot have such a width") as caught:
            inches(width)
        assert "column, page, or inches from 3 to 20" in caught.value.expected


def test_texts_that_overlap_are_noticed():
    boxes = [Bbox.from_extents(*at) for at in ((0, 0, 10, 5), (8, 3, 20, 9), (19.5, 8, 30, 12))]
    assert overlapping(list(zip("abc", boxes, strict=True))) == [("a", "b")]
    boxes = [Bbox.from_extents(*at) for at in ((0, 0, 10, 5), (12, 0, 20, 5), (26, 0, 30, 5))]
    assert touching(list(zip("123", boxes, strict=True))) == [("1", "2")]


def test_no_panel_is_empty(figures):
    for name, figure in figures.items():
        for ax in figure.axes:
            shown = [*ax.lines, *ax.collections, *ax.patches, *ax.images]
            assert shown, (name, ax.get_title(loc="left"))
            assert np.isfinite(ax.get_xlim()).all()
