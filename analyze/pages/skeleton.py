"""The skeleton of all pages: one file without references, light and dark, with scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from analyze.figures.colours import DARK
from analyze.figures.looks import further_look, look
from analyze.figures.names import plain
from analyze.pages.embedding import data_element, script_element, script_hash
from analyze.pages.figures import variable
from analyze.pages.text import FILTERS
from analyze.pages.writing import generator
from analyze.results.rows import FORMULA

HERE = Path(__file__).parent
PINS = 8  # layers, and checkpoints, that a page may keep in view beside the chosen one
LIBRARIES = ("d3.min.js", "plot.min.js")
SHARED = (  # scripts of all pages, in this order
    "arrays", "format", "axes", "sizes", "lines", "heatmap", "controls", "combobox", "pins",
    "pointing", "zoom", "address", "saving", "table", "paper",
    "contents", "edges",
)  # fmt: skip


def render(
    template: Path,
    contents: Mapping[str, Any],
    *,
    command: str,
    data: Mapping[str, Any],
    scripts: Sequence[Path],
) -> str:
    """A page from a template that extends ``skeleton.html``; all names from files are escaped.

    A template writes the heads of its sections with ``heading(name, title, when)``, from which the
    page's list of contents is made: the name is an id, ``when`` as in ``Heading``.

    Args:
        template: The file of the template.
        contents: The template's variables.
        command: The command that writes the page, ``report`` or ``compare``.
        data: Data for the scripts, as JSON.
        scripts: Scripts of this page, which follow those of all pages.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= FILTERS
    headings: list[Heading] = []
    environment.globals["heading"] = partial(_heading, headings)
    theme = _read(HERE / "scripts" / "theme.js")
    libraries = [_read(HERE / "libraries" / name) for name in LIBRARIES]
    shared = [HERE / "scripts" / f"{name}.js" for name in SHARED]
    script = f'"use strict";\n{{\n{"".join(_read(path) for path in [*shared, *scripts])}}}\n'
    return environment.get_template(template.name).render(
        **contents,
        headings=headings,
        generator=Markup(generator(command)),
        policy=_policy([theme, *libraries, script]),
        css=Markup(_colours() + _read(HERE / "style.css")),
        theme=script_element(theme),
        data=data_element({**data, **_of_shared_scripts()}),
        libraries=[script_element(text) for text in libraries],
        licence=escape(_read(HERE / "libraries" / "LICENSES.txt")),
        script=script_element(script),
    )


@dataclass(frozen=True)
class Heading:
    """An entry of the list of contents; ``when`` is the class of a section not always shown."""

    name: str
    title: str
    when: str  # ``scripted``, ``static``, or empty


def _heading(headings: list[Heading], name: str, title: str, when: str = "") -> Markup:
    """The heading of a section, which joins the list of contents."""
    headings.append(Heading(name, title, when))
    return Markup('<h2 id="{}" tabindex="-1">{}</h2>').format(name, title)


def _shown(value: Any) -> Any:
    """A text without control characters; lines stay, and what is HTML already."""
    if type(value) is not str:
        return value
    return "\n".join(map(plain, value.split("\n")))


def _of_shared_scripts() -> dict[str, Any]:
    """What scripts of all pages need: looks of what is pinned and of what is not, signs of CSV."""
    looks = [further_look(k).data for k in range(PINS)]
    return {"formula": "".join(FORMULA), "ink": look(0).data, "looks": looks}


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: draw, run exactly these scripts, and load nothing."""
    hashes = " ".join(script_hash(text) for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _colours() -> str:
    """The colours of the figures as CSS variables, for light and for dark."""
    light = "".join(f"{variable(colour)}:{colour};" for colour in DARK)
    dark = "".join(f"{variable(colour)}:{other};" for colour, other in DARK.items())
    dark += "color-scheme:dark;"
    return (
        f":root{{color-scheme:light;{light}}}\n"
        "@media screen and (prefers-color-scheme:dark)"
        f"{{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
