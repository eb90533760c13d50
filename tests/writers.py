"""The functions that write outputs, each small and quick: for tests of what happens to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import analyze
from analyze.comparison import page as comparison_page
from analyze.figures import contact_sheet
from analyze.figures.contact_sheet import write_sheet
from analyze.figures.style import MARK
from analyze.pages import writing
from analyze.probes.file import write_probes
from analyze.reports import page as report_page
from analyze.results import file as results_file
from analyze.results.file import file_content, write_results
from tests.comparisons import make_comparison
from tests.trees import make_tree

Write = Callable[[Path], object]
RESULTS = make_tree(steps=(0, 1))
COMPARISON = make_comparison(steps=(0, 1))
FILES = {id(tree): [bytes(part) for part in file_content(tree)] for tree in (RESULTS, COMPARISON)}
IMAGES = analyze.ProbeSet(np.zeros((3, 1, 8, 8), np.float32), np.arange(3))
SHEET = contact_sheet._drawn(IMAGES)

WRITERS: dict[str, Write] = {
    "results": lambda folder: write_results(RESULTS, folder / "out.h5"),
    "report": lambda folder: report_page.write_report(RESULTS, folder / "pages"),
    "compare": lambda folder: comparison_page.write_comparison(COMPARISON, folder / "pages"),
    "probes build": lambda folder: write_probes(folder / "p.safetensors", IMAGES),
    "probes show": lambda folder: write_sheet(IMAGES, folder / "sheet.png"),
}


@contextmanager
def drawn_quickly() -> Iterator[None]:
    """What takes time is made once; pages have two figures and say no more than whose they are."""
    figures = {name: Figure() for name in ("training", "loss")}
    with pytest.MonkeyPatch.context() as patch:
        for module, draws in (
            (report_page, "run_figures"),
            (comparison_page, "comparison_figures"),
        ):
            mark = f'<meta name="generator" content="analyze {module.COMMAND}">'
            patch.setattr(module, draws, lambda *_: figures)
            patch.setattr(module, "render_page", lambda *_, mark=mark: mark)
        files = {kind: f"{MARK} as {kind}".encode() for kind in ("svg", "pdf", "png")}
        patch.setattr(writing, "rendered", lambda figure: files)
        patch.setattr(contact_sheet, "_drawn", lambda probes: SHEET)
        for module in (comparison_page, results_file):
            patch.setattr(module, "file_content", lambda t: FILES.get(id(t)) or file_content(t))
        yield


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every directory, by name in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
