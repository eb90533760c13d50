"""The functions of the package for Python, from their docstrings: writes docs/api.md.

    python -m scripts.api

A test holds that the page is that of today's docstrings.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import analyze

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
HEAD = """# Python

Every command is the function of its name. `scripts/api` makes this page from the docstrings; the
examples in it are run as tests, on a file `half_noise.h5` and a directory `runs/half_noise`.

"""
# The order of the page: what is done first comes first.
FIRST = (
    "ProbeSet", "measure", "concat", "scan", "init", "check", "run", "status", "open_results",
    "show", "to_csv", "plot", "report", "compare", "examples", "InputError",
)  # fmt: skip
MODULES = ("statistics", "figures", "probes")
WIDTH = 100  # characters of a line of code
SECTION = re.compile(r"^(Args|Returns|Raises|Example|Cost):", re.MULTILINE)
ENTRY = re.compile(r"^(\*{0,2}\w+): ", re.MULTILINE)


def page() -> str:
    """The whole page."""
    parts = [HEAD, contents(), *(entry(name, getattr(analyze, name)) for name in FIRST)]
    for module in MODULES:
        home = getattr(analyze, module)
        parts.append(f"## analyze.{module}\n\n{markdown(inspect.getdoc(home) or '')}\n\n")
        for name in home.__all__:
            found = getattr(home, name)
            if getattr(analyze, name, None) is not found:
                parts.append(entry(f"{module}.{name}", found))
    return "".join(parts).rstrip("\n") + "\n"


def contents() -> str:
    """Every function with its first sentence."""
    names = [*FIRST, *(f"{m}.{n}" for m in MODULES for n in getattr(analyze, m).__all__)]
    lines = ["| | |", "| --- | --- |"]
    for name in names:
        found: Any = analyze
        for part in name.split("."):
            found = getattr(found, part)
        if "." in name and getattr(analyze, name.rpartition(".")[2], None) is found:
            continue
        first = (inspect.getdoc(found) or "").partition("\n\n")[0]
        lines.append(f"| [`{name}`](#analyze{name.replace('.', '').lower()}) | {markdown(first)} |")
    return "\n".join(lines) + "\n\n"


def entry(name: str, found: Any) -> str:
    """A function or class: its signature, and its docstring section by section."""
    title = f"### analyze.{name}\n\n"
    signature = f"```python\n{signature_of(name, found)}\n```\n\n"
    parts = [title, signature, *sections(inspect.getdoc(found) or "")]
    if inspect.isclass(found) and not issubclass(found, Exception):
        for method, function in vars(found).items():
            if isinstance(function, classmethod) and not method.startswith("_"):
                parts.append(entry(f"{name}.{method}", getattr(found, method)))
    return "".join(parts)


def signature_of(name: str, found: Any) -> str:
    """As one would call it, on several lines where it is long."""
    signature = inspect.signature(found)
    parameters: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        stars = "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f" = {one.default!r}"
        parameters.append(f"{stars}{one.name}: {one.annotation}{default}")
    returns = "" if inspect.isclass(found) else f" -> {signature.return_annotation}"
    text = f"{name}({', '.join(parameters)}){returns}"
    if len(text) > WIDTH:
        text = f"{name}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){returns}"
    return text.replace("xr.", "xarray.")


def sections(doc: str) -> Iterator[str]:
    """The parts of a docstring as Markdown, the example first."""
    starts = [m.start() for m in SECTION.finditer(doc)]
    before, *parts = (doc[a:b] for a, b in pairwise([0, *starts, len(doc)]))
    yield f"{markdown(before)}\n\n"
    for part in sorted(parts, key=lambda part: not part.startswith("Example")):
        head, _, body = part.partition(":")
        body = textwrap.dedent(body.lstrip("\n") if body.startswith("\n") else body.strip())
        rest = ""
        if head == "Cost":
            body, _, rest = body.partition("\n\n")
        if head == "Example":
            yield f"```python\n{' '.join(body.split()).strip('`')}\n```\n\n"
        elif head == "Args":
            yield f"**Takes**\n\n{entries(body)}\n\n"
        else:
            yield f"**{head}:** {markdown(body)}\n\n"
        if rest:
            yield f"{markdown(rest)}\n\n"


def entries(body: str) -> str:
    """A list of what is taken, by name."""
    _, *found = ENTRY.split(body)
    pairs = zip(found[::2], found[1::2], strict=True)
    return "\n".join(f"- `{name}`: {markdown(text)}" for name, text in pairs)


def markdown(text: str) -> str:
    """A text of a docstring: code between single marks, paragraphs on one line each."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(
        f"```python\n{textwrap.dedent(p)}\n```" if p.startswith("    ")
        else " ".join(p.split()).replace("``", "`")
        for p in paragraphs
    )  # fmt: skip


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
