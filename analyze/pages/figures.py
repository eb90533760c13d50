"""Figures as files and as SVG in the page, with the same bytes every time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import xarray as xr
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from analyze.figures.colours import DARK
from analyze.figures.entry import FigureEntry
from analyze.figures.style import MARK, style
from analyze.files.whole import Content

LARGEST = 500_000  # characters; a larger figure is a file beside the page only
FORMATS = ("svg", "pdf", "png")
METADATA = {
    "svg": {"Date": None, "Creator": MARK},
    "pdf": {"CreationDate": None, "Creator": MARK},
    "png": {"Software": MARK},
}
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
REFERENCE = re.compile(r"url\(#([^)]+)\)")


def figure_files(figure: Figure, directory: Path, name: str) -> dict[Path, Content]:
    """The content of ``name.svg``, ``name.pdf`` and ``name.png``."""
    return {directory / f"{name}.{kind}": [_rendered(figure, kind)] for kind in FORMATS}


def is_own_figure(path: Path) -> bool:
    """Whether this program has drawn the figure in a file."""
    return MARK.encode() in path.read_bytes()


def inline_svg(figure: Figure, name: str, title: str) -> Markup:
    """A figure as an SVG element for a page.

    Colours are the page's variables, to follow light and dark; ids begin with ``name``, so that no
    two figures of a page share one.
    """
    root = ElementTree.fromstring(_rendered(figure, "svg"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    _remove(root, {"metadata", "style"})
    for element in root.iter():
        element.attrib = dict(_attribute(k, v, name) for k, v in element.attrib.items())
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # escaped by ElementTree


@dataclass(frozen=True)
class Still:
    """A figure on a page; without ``svg`` it is in its file only."""

    entry: FigureEntry
    name: str
    caption: str
    svg: Markup | None


def still_figures(
    table: Iterable[FigureEntry], tree: xr.DataTree, figures: Mapping[str, Figure]
) -> list[Still]:
    """The figures that belong to sections of the page, in the order of the table."""
    stills = []
    for entry in table:
        caption = entry.caption_of(tree).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
        for name, figure in entry.drawn(figures).items() if entry.section else ():
            svg = inline_svg(figure, name, entry.title)
            shown = svg if entry.leading or len(svg) <= LARGEST else None
            stills.append(Still(entry, name, caption, shown))
    return stills


def variable(colour: str) -> str:
    """The name of the page's variable for a colour of the figures."""
    return f"--c-{colour.lstrip('#')}"


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # With constrained layout switched on, savefig would apply it to figures made without one.
    with style(), rc_context({"figure.constrained_layout.use": False}), _missing_glyphs_allowed():
        figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


@contextmanager
def _missing_glyphs_allowed() -> Iterator[None]:
    """Ignore warnings about characters that the font lacks: the PNG shows boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


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
