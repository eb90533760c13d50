"""The notebooks of the docs run as they stand, and show what they gave when they were last run."""

from __future__ import annotations

import pytest

from scripts.notebooks import FOLDER, executed

nbformat = pytest.importorskip("nbformat")
# By what each notebook is made shorter: fewer probes and steps, a smaller network.
SHORTER = {
    "noisy_labels": {
        "[::4]": "[::20]", "width=8": "width=2", "range(8)": "range(1)",
        "(0, 3, 10, 20, 40, 80, 160, 319)": "(0, 3)",
    },
    "language_model": {
        "[:200]": "[:40]", "[:1200]": "[:120]", "n_embd=48": "n_embd=8", "range(3)": "range(1)",
        "(0, 5, 15, 30, 60, 149)": "(0, 3)",
    },
}  # fmt: skip


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == SHORTER.keys()


@pytest.mark.parametrize(
    "short", [True, pytest.param(False, marks=pytest.mark.nightly)], ids=["short", "as it stands"]
)
@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_runs_and_shows_what_it_is_said_to(name, short):
    path = FOLDER / f"{name}.ipynb"
    kept = nbformat.read(path, as_version=4)
    again = executed(path, SHORTER[name] if short else {})
    for before, after in zip(kept.cells, again.cells, strict=True):
        assert kinds(before) == kinds(after), after.source
    assert any("image/png" in kind for cell in again.cells for kind in kinds(cell))


def kinds(cell) -> list[tuple[str, ...]]:
    """What kinds of output a cell has, in their order; what stands on stderr is none."""
    outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    return [tuple(sorted(output.get("data", {}))) for output in outputs]
