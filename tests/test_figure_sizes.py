"""Figures of few and of many: nothing overlaps, nothing is cut off, no panel is empty."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analyze.figures.style import style
from analyze.figures.table import run_figures
from tests.synthetic import synthetic

SLACK = 1.0  # pixels that boxes of neighbouring texts may share


@pytest.fixture(scope="module", params=["few", "many layers", "many checkpoints", "many subsets"])
def figures(request) -> dict[str, Figure]:
    return run_figures(corner(request.param))


def corner(name: str) -> xr.DataTree:
    sizes = {
        "few": {"layers": 10, "checkpoints": 3, "subsets": 2},
        "many layers": {"layers": 200, "checkpoints": 3, "subsets": 2},
        "many checkpoints": {"layers": 10, "checkpoints": 300, "subsets": 2, "skipped": (100, 150)},
        "many subsets": {"layers": 10, "checkpoints": 12, "subsets": 12},
    }
    return synthetic(**sizes[name], folds=3, probes=30, strength=2.0)


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    with style():
        canvas.draw()
        renderer = canvas.get_renderer()
        hidden = {id(label) for ax in figure.axes for label in not_drawn(ax)}
        return [
            (text.get_text(), text.get_window_extent(renderer))
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


def test_no_text_overlaps_another_and_none_is_cut_off(figures):
    for name, figure in figures.items():
        found = boxes(figure)
        width, height = figure.bbox.width, figure.bbox.height
        for text, box in found:
            assert min(box.x0, box.y0) >= -SLACK, (name, text, box)
            assert box.x1 <= width + SLACK, (name, text, box)
            assert box.y1 <= height + SLACK, (name, text, box)
        assert overlapping(found) == [], name


def test_texts_that_overlap_are_noticed():
    boxes = [Bbox.from_extents(*at) for at in ((0, 0, 10, 5), (8, 3, 20, 9), (19.5, 8, 30, 12))]
    assert overlapping(list(zip("abc", boxes, strict=True))) == [("a", "b")]


def test_no_panel_is_empty(figures):
    for name, figure in figures.items():
        for ax in figure.axes:
            shown = [*ax.lines, *ax.collections, *ax.patches, *ax.images]
            assert shown, (name, ax.get_title(loc="left"))
            assert np.isfinite(ax.get_xlim()).all()
