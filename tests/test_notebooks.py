"""The notebooks of the docs run as they stand, and show what they gave when they were last run."""

from __future__ import annotations

import pytest

from scripts.notebooks import FOLDER, executed

nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_is_said_to(path):
    kept = nbformat.read(path, as_version=4)
    again = executed(path)
    for before, after in zip(kept.cells, again.cells, strict=True):
        assert kinds(before) == kinds(after), after.source
    assert any("image/png" in kind for cell in again.cells for kind in kinds(cell))


def kinds(cell) -> list[tuple[str, ...]]:
    """What kinds of output a cell has, in their order; what stands on stderr is none."""
    outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    return [tuple(sorted(output.get("data", {}))) for output in outputs]
