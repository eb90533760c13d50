"""Names in results of strangers: the terminal, the page and its figures take them as plain text."""

from __future__ import annotations

import json

import h5py
import pytest

import analyze
from analyze.cli.tables import print_table
from analyze.errors import MOST_CHARACTERS
from analyze.figures.names import LONGEST, figure_text
from analyze.pages.skeleton import _shown
from analyze.text import LONGEST as LONGEST_CELL
from analyze.text import cell_text
from tests.conftest import call

pytestmark = pytest.mark.usefixtures("pages_only")

EVIL = "_\x1b[31m\u202ea\nb $\\frac{$ </script><b>"
NAMES = ("subset", "subset_other", "cell_subset", "cell", "cell_other", "layer", "layer_type",
         "parameter", "checkpoint", "method", "aliases")  # fmt: skip


@pytest.fixture
def renamed(measured, tmp_path):
    """A function that puts something before every name of a results file."""

    def rename(before: str):
        path = tmp_path / "copy.h5"
        path.write_bytes(measured.output.read_bytes())
        with h5py.File(path, "r+") as file:
            for group in (file, *file.values()):
                for name in set(NAMES) & set(group) if isinstance(group, h5py.Group) else ():
                    values = group[name].asstr()[...]
                    group[name][...] = [v if v == "all" else before + v for v in values]
            file["status"][...] = ["ok", before, "ok"]
            file["loss"].attrs["units"] = before
            origin = json.loads(file.attrs["provenance"])
            origin |= {"warnings": [before], "loss": before, "run": {"name": before}}
            file.attrs["provenance"] = json.dumps(origin)
        return path

    return rename


def test_names_are_text_on_the_terminal_and_on_the_page(renamed, tmp_path):
    path = renamed(EVIL)
    shown = "".join(
        call("show", str(path), *options).stdout
        for options in ((), ("--layers",), ("--csv",), ("--json",))
    )
    page = analyze.report(path, output=tmp_path / "page").read_text(encoding="utf-8")
    figures = [f.read_text(encoding="utf-8") for f in (tmp_path / "page").rglob("*.svg")]
    for text in (shown, page, *figures):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "Skipped" in shown
    assert "</script><b>" not in page
    assert "script&gt;&lt;b&gt;" in page
    assert figures


def test_names_of_any_length_make_a_short_page_and_short_tables(renamed, tmp_path):
    plain, long = renamed("x").read_bytes(), renamed("x" * 100_000)
    assert long.stat().st_size > len(plain) + 1_000_000
    shown = call("show", str(long)).stdout + call("show", str(long), "--layers").stdout
    assert len(shown) < 100_000
    page = analyze.report(long, output=tmp_path / "page")
    assert all(f.stat().st_size < 2_000_000 for f in tmp_path.rglob("page/**/*.*"))
    assert "x" * (LONGEST_CELL + 1) not in page.read_text()


def test_columns_and_titles_of_tables_are_text(capsys):
    print_table(f"title {EVIL}", [f"column {EVIL}"], [[EVIL]])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(shown.splitlines()) == 3


def test_texts_of_a_page_keep_their_lines_only():
    assert _shown("a\nb\x1b\u202ec\t") == "a\nb??c?"
    assert _shown(3) == 3


def test_long_names_lose_their_middle():
    for text in (cell_text("a" + "b" * 5000 + "c"), figure_text("a" + "b" * 5000 + "c")):
        assert text.startswith("ab")
        assert text.endswith("bc")
        assert "\u2026" in text
    assert len(cell_text("b" * 5000)) <= LONGEST_CELL < MOST_CHARACTERS
    assert len(figure_text("b" * 5000)) == LONGEST
    assert figure_text("b" * LONGEST) == "b" * LONGEST
