"""Figures as files and as SVG in the page, with the same bytes every time.

A figure is laid out once, and drawn once for each kind of file: ``Figure.savefig`` lays it out and
walks through it twice for each. The page shows the SVG that is in the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import xarray as xr
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analyze.figures.colours import DARK
from analyze.figures.entry import FigureEntry
from analyze.figures.numbers import FEW_DRAWN, SAME, numbers_behind
from analyze.figures.style import MARK, missing_glyphs_allowed, style
from analyze.pages.described import described
from analyze.pages.numbers import Table, table_of

LARGEST = 500_000  # characters; a larger figure is a file beside the page only
DPI = 300  # of PNG files, and of what is an image in the others
METADATA: dict[str, dict[str, Any]] = {  # without dates
    "svg": {"Date": None, "Creator": MARK},
    "pdf": {"CreationDate": None, "Creator": MARK},
    "png": {"Software": MARK},
}
CANVASES = {"svg": FigureCanvasSVG, "pdf": FigureCanvasPdf, "png": FigureCanvasAgg}
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
REFERENCE = re.compile(r"url\(#([^)]+)\)")


def is_own_figure(path: Path) -> bool:
    """Whether this program has drawn the figure in a file."""
    return MARK.encode() in path.read_bytes()


def rendered(figure: Figure, kinds: Iterable[str] = tuple(CANVASES)) -> dict[str, bytes]:
    """The content of a figure's file of each kind: ``svg``, ``pdf``, ``png``."""
    with style(), rc_context({"figure.constrained_layout.use": False}), missing_glyphs_allowed():
        figure.dpi = DPI
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine("none")
        return {kind: _written(figure, kind) for kind in kinds}


def inline_svg(svg: bytes, name: str, title: str) -> Markup:
    """A figure's SVG file as an element for a page.

    Colours are the page's variables, to follow light and dark; ids begin with ``name``, so that no
    two figures of a page share one.
    """
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    _remove(root, {"metadata", "style"})
    for element in root.iter():
        element.attrib = dict(_attribute(k, v, name) for k, v in element.attrib.items())
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # escaped by ElementTree


@dataclass(frozen=True)
class Still:
    """A figure on a page; without ``svg`` it is in its file only.

    ``table`` holds its numbers, or ``numbers_in`` is the name of the figure that has them.
    """

    entry: FigureEntry
    name: str
    title: str
    caption: str
    svg: Markup | None
    table: Table | None
    numbers_in: str


def still_figures(
    table: Iterable[FigureEntry],
    tree: xr.DataTree,
    pictures: Mapping[str, bytes],
    places: Sequence[str],
) -> list[Still]:
    """The figures that belong to sections of the page, in the order of the table.

    ``pictures`` are the contents of SVG files by the names of these, ``places`` the checkpoints in
    words.
    """
    stills = []
    for entry in table:
        caption = entry.caption_of(tree).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
        for name, picture in entry.drawn(pictures).items() if entry.section else ():
            title, numbers = entry.title_of(tree), numbers_behind(tree, name)
            words = described(
                f"{title}. {FEW_DRAWN[name]}" if name in FEW_DRAWN else title, numbers, places
            )
            svg = inline_svg(picture, name, words)
            shown = svg if entry.leading or len(svg) <= LARGEST else None
            other = SAME.get(name, "")
            rows = None if other else table_of(numbers, places)
            stills.append(Still(entry, name, title, caption, shown, rows, other))
    return stills


def variable(colour: str) -> str:
    """The name of the page's variable for a colour of the figures."""
    return f"--c-{colour.lstrip('#')}"


def _written(figure: Figure, kind: str) -> bytes:
    figure.dpi = DPI  # as the vector formats leave it at 72
    buffer = io.BytesIO()
    getattr(CANVASES[kind](figure), f"print_{kind}")(buffer, metadata=METADATA[kind])
    return buffer.getvalue()


def _remove(root: ElementTree.Element, tags: set[str]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    key = key.rpartition("}")[2]  # xlink:href as href
    if key == "id":
        return key, f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return key, f"#{name}-{value[1:]}"
    return key, COLOUR.sub(_as_variable, REFERENCE.sub(rf"url(#{name}-\1)", value))


def _as_variable(match: re.Match[str]) -> str:
    colour = match[0].lower()
    return f"var({variable(colour)}, {colour})" if colour in DARK else colour
